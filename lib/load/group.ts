/** Loading a model on the ranks of a group: each rank reads its own FFN experts. */
import { existsSync, readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { findPackageRoot, packageVersion } from '../addon/addon-file.js'
import { loadBinding, type NativeGroup } from '../addon/binding.js'
import { openDevice } from '../addon/device.js'
import { readConfigJson } from '../base/fields.js'
import { show } from '../base/json.js'
import { MoeppError } from '../errors.js'
import type { Isa, ResolvedLoadOptions } from '../options/load.js'
import { agree, digestOf, type Facts, tellAll } from '../parallel/agreement.js'
import { holdsQuantised } from '../program/model-spec.js'
import { Placement, parsePlacement } from '../program/placement.js'
import type { LoadPlan } from './plan.js'

/**
 * The experts of each rank: those that the file says, or neighbours.
 * @throws MoeppError ERR_NOT_FOUND, ERR_BAD_FILE
 */
export async function readPlacement(
  { rank, size }: NativeGroup,
  file?: string,
): Promise<Placement> {
  if (file === undefined) return new Placement(rank, size)
  return new Placement(rank, size, parsePlacement(await readConfigJson(file), file, size))
}

/**
 * Compares all that results depend on, and takes the instruction set of rank 0 on every rank's CPU.
 * @throws MoeppError ERR_PARALLEL
 */
export async function agreeOn(group: NativeGroup, plan: LoadPlan): Promise<LoadPlan> {
  await agree(group, factsOf(plan))
  if (plan.options.parallel === 'nccl') return plan
  const [isa] = await tellAll(group, isaOf(plan))
  const { isas } = loadBinding().processor()
  const lacking = (await tellAll(group, isas)).findIndex(each => !each.includes(isa!))
  if (lacking !== -1) {
    throw new MoeppError(
      'ERR_PARALLEL',
      `isa: rank 0 computes with ${show(isa)}, which the processor of rank ${lacking} does not have; expected an isa that ` +
        'all have, named by the option',
    )
  }
  return { ...plan, options: { ...plan.options, isa: isa as Isa } }
}

/**
 * Ranks of one machine that may use the same cores share them out, unless the option says how many
 * threads a rank has.
 */
export async function shareThreads(group: NativeGroup, plan: LoadPlan): Promise<LoadPlan> {
  const places = await tellAll(group, [hostname(), ownCores()].join(' '))
  if (plan.options.threads !== undefined) return plan
  const together = places.filter(place => place === places[group.rank]).length
  const threads = Math.max(1, Math.floor(availableThreads() / together))
  return { ...plan, options: { ...plan.options, threads } }
}

/**
 * With 'nccl' the GPU of this rank, unless the option names one: its place among the ranks of its
 * machine.
 * @throws MoeppError ERR_UNSUPPORTED where a machine has fewer GPUs than ranks
 */
export async function withOwnGpu(
  group: NativeGroup,
  o: ResolvedLoadOptions,
): Promise<ResolvedLoadOptions> {
  if (o.parallel !== 'nccl') return o
  const machines = await tellAll(group, o.device === 'auto' ? machine() : null)
  if (o.device !== 'auto') return o
  const here = machines[group.rank]
  const place = machines.slice(0, group.rank).filter(each => each === here).length
  const { devices, problem } = loadBinding().cuda()
  // Without any, opening one tells why.
  if (problem === '' && place >= devices) {
    const ranks = machines.filter(each => each === here).length
    throw new MoeppError(
      'ERR_UNSUPPORTED',
      `parallel: 'nccl' needs a GPU for each rank; got ${ranks} ranks on ${hostname()}, which has ${devices}`,
    )
  }
  return { ...o, device: `cuda:${place}` }
}

/** The name alone may be that of other containers, too. */
function machine(): string {
  const file = '/proc/sys/kernel/random/boot_id'
  return `${hostname()} ${existsSync(file) ? readFileSync(file, 'utf8').trim() : ''}`
}

/** The cores that this process may run on, as Linux lists them. */
function ownCores(): string {
  try {
    return /^Cpus_allowed_list:.*$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[0] ?? ''
  } catch {
    return ''
  }
}

function availableThreads(): number {
  const device = openDevice('cpu')
  const { threads } = device.info()
  device.close()
  return threads
}

/** The instruction set that was named, or the fastest for these weights. */
export function isaOf({ spec, options }: LoadPlan): string {
  if (options.isa !== 'auto') return options.isa
  const rounds = options.activationDtype === 'bfloat16'
  return loadBinding().fastestIsa(holdsQuantised(spec) ? 'int8' : 'bf16', rounds)
}

function factsOf({ description, options, group, spec }: LoadPlan): Facts {
  const { weights } = group?.whole ?? spec
  const stored = weights.flatMap(({ parts }) =>
    parts.map(({ name, dtype, shape }) => [name, dtype, shape]),
  )
  return {
    version: findPackageRoot() ? packageVersion() : 'bundled',
    'config.json': digestOf(description.config),
    dtype: options.dtype,
    activationDtype: options.activationDtype,
    kvCacheDtype: options.kvCacheDtype,
    parallel: options.parallel ?? null,
    isa: options.isa,
    contextLength: options.contextLength ?? null,
    kvCacheTokens: options.kvCacheTokens ?? null,
    placement: group ? digestOf(group.placement.words) : null,
    parallelDeadlineMs: options.parallelDeadlineMs,
    'stored weights': digestOf(stored),
  }
}
