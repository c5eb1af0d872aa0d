/** loadModel: from a directory or a hub id to a model that runs. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import {
  type DeviceInfo,
  fromNative,
  type NativeDevice,
  type NativeGroup,
  type NativeProgram,
  type ProgramSpec,
} from '../addon/binding.js'
import { runWatched } from '../addon/control.js'
import {
  describeDevice,
  findGpu,
  isGpuFailure,
  openDevice,
  tooLarge,
  warnFallback,
} from '../addon/device.js'
import { openCheckpoint } from '../checkpoint/checkpoint.js'
import { MoeppError } from '../errors.js'
import type { ModelConfig } from '../families/family.js'
import { FAMILIES, readModel } from '../families/registry.js'
import { type LoadTrace, publicSource, traced } from '../generation/diagnostics.js'
import { readGenerationConfig } from '../generation/generation-config.js'
import { Model } from '../generation/model.js'
import type { ModelParts } from '../generation/model-parts.js'
import { resolveSource } from '../hub/source.js'
import { DeviceRunner, type RunnerParts } from '../model/runner.js'
import {
  type LoadOptions,
  type ResolvedLoadOptions,
  resolveLoadOptions,
} from '../options/generate.js'
import { afterFirst, tellAll } from '../parallel/agreement.js'
import { GroupRunner } from '../parallel/group-runner.js'
import { openMpi } from '../parallel/mpi.js'
import { type ModelSpec, weightBytes } from '../program/model-spec.js'
import type { Placement } from '../program/placement.js'
import { wordOf } from '../tensor/dtypes.js'
import { loadTokenizer, type Tokenizer } from '../tokenizer/tokenizer.js'
import { availableMemory } from './available-memory.js'
import { logitRowsOf, stepTokensOf, traitsOf } from './device-traits.js'
import { agreeOn, isaOf, readPlacement, shareThreads, withOwnGpu } from './group.js'
import {
  checkMemory,
  estimate,
  type MemoryEstimate,
  type Place,
  placeOf,
} from './memory-estimate.js'
import { cacheOf, contextLengthOf, type LoadPlan, matrixTypeOf, planLoad, planOn } from './plan.js'

/**
 * Loads a model: its configuration, its tokenizer if there is one, and its weights.
 *
 * @param source a directory, an npm package (`npm:moepp-books-7m`), or a model on the hub:
 *   `hf:Chat-UniVi/MoE-Plus-Plus-7B`, its URL, or its plain id if no such directory exists
 * @param options device, types, sizes and the hub; see LoadOptions
 * @throws MoeppError ERR_NOT_FOUND, ERR_BAD_FILE, ERR_UNSAFE_FILE, ERR_BAD_CONFIG, ERR_BAD_WEIGHTS,
 *   ERR_BAD_TOKENIZER, ERR_HUB, ERR_UNSUPPORTED, ERR_NO_GPU, ERR_DRIVER_TOO_OLD, ERR_GPU_TOO_OLD,
 *   ERR_DEVICE, ERR_OUT_OF_MEMORY, ERR_ABORTED, ERR_NO_BINDING; TypeError or RangeError for a wrong
 *   option
 *
 * @example
 * ```ts
 * import { loadModel } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m', {
 *   dtype: 'int8',
 *   onProgress: ({ stage, doneBytes, totalBytes }) => console.log(stage, doneBytes / totalBytes),
 * })
 * console.log(model.device.name, model.config.layers)
 * await model.close()
 * ```
 */
export async function loadModel(source: string, options: LoadOptions = {}): Promise<Model> {
  const o = resolveLoadOptions(options)
  return traced(
    'load',
    (): LoadTrace => ({
      source: publicSource(source),
      requested: { device: o.device, dtype: o.dtype },
    }),
    async () => {
      const parts = await loadParts(source, o)
      return { model: new Model(parts), dtype: parts.runner.info().matrixType }
    },
    ({ model, dtype }) => ({ device: model.device.name, dtype }),
  ).then(({ model }) => model)
}

/**
 * Estimates the memory that `loadModel` needs with the same options, and reads how much is
 * available. Reads headers only. A hub id is downloaded first, as by loadModel. With the option
 * `parallel` all ranks call it, and each gets its own estimate.
 *
 * @param source as of loadModel
 * @returns bytes of the weights, the KV cache and a step on the device that loadModel would take.
 *   On a CPU the peak of loading and generating is within 10 % and 16 MB of them.
 * @throws as loadModel, but for ERR_OUT_OF_MEMORY
 *
 * @example
 * ```ts
 * import { estimateMemory } from 'moepp'
 *
 * const { requiredBytes, availableBytes, fits } = await estimateMemory('npm:moepp-books-7m', {
 *   dtype: 'int8',
 *   kvCacheTokens: 4096,
 * })
 * console.log(`${requiredBytes} of ${availableBytes} bytes`, fits ? 'fit' : 'do not fit')
 * ```
 */
export async function estimateMemory(
  source: string,
  options: LoadOptions = {},
): Promise<MemoryEstimate> {
  const [only] = await estimateEach(source, [options])
  return only!
}

/**
 * estimateMemory for options that differ in types and sizes only. The memory available is read
 * once, so that the estimates compare.
 */
export async function estimateEach(
  source: string,
  each: readonly LoadOptions[],
): Promise<MemoryEstimate[]> {
  const resolved = each.map(resolveLoadOptions)
  const { device, parallel, parallelDeadlineMs, placement: file } = resolved[0]!
  const directory = await resolveSource(source, resolved[0]!)
  const group = parallel && openMpi(parallelDeadlineMs)
  const own = group ? (await withOwnGpu(group, resolved[0]!)).device : device
  const placement = group && (await readPlacement(group, file))
  const plans = await Promise.all(
    resolved.map(o => readPlan(directory, { ...o, device: own }, FAMILIES, placement)),
  )
  const places = readPlaces(own)
  await group?.close()
  return plans.map(plan => estimate(plan, placeFor(plan, places)))
}

interface Places {
  readonly host: Place
  /** The device that was asked for, or found, if it is not the host. */
  readonly gpu?: DeviceInfo
}

/** A GPU is opened and closed again. */
function readPlaces(device: ResolvedLoadOptions['device']): Places {
  const host: Place = { name: 'cpu', availableBytes: availableMemory() }
  if (device === 'cpu') return { host }
  const found = device === 'auto' ? findGpu() : { device: openDevice(device) }
  if (!('device' in found)) return { host }
  const gpu = found.device.info()
  found.device.close()
  return { host, gpu }
}

/** The device that the model would be loaded on. */
function placeFor(plan: LoadPlan, { host, gpu }: Places): Place {
  if (!gpu) return host
  const isNamed = plan.options.device !== 'auto'
  return isNamed || tooLarge(gpu, gpuBytes(plan)) === undefined ? placeOf(gpu) : host
}

async function readPlan(
  directory: string,
  o: ResolvedLoadOptions,
  families = FAMILIES,
  placement?: Placement,
): Promise<LoadPlan> {
  const description = await readModel(directory, families)
  return planLoad(description, await openCheckpoint(directory), o, placement)
}

type LoadedParts = ModelParts & { readonly runner: DeviceRunner; readonly spec: ModelSpec }

/**
 * Loads the parts of a Model; `change` may change how it is recorded, but none of its weights.
 * @param group of ranks that load it, too; by default that of the options, if there is one
 */
export async function loadParts(
  source: string,
  o: ResolvedLoadOptions,
  families = FAMILIES,
  change = (spec: ModelSpec): ModelSpec => spec,
  group = o.parallel && openMpi(o.parallelDeadlineMs),
): Promise<LoadedParts> {
  if (!group) {
    const directory = await resolveSource(source, o)
    return finishLoad(directory, await readPlan(directory, o, families), change)
  }
  // One progress is enough.
  if (group.rank > 0) o = { ...o, onProgress: undefined }
  try {
    o = await withOwnGpu(group, o)
    const directory = await afterFirst(group, () => resolveSource(source, o))
    const placement = await readPlacement(group, o.placement)
    const agreed = await agreeOn(group, await readPlan(directory, o, families, placement))
    const plan = await shareThreads(group, agreed)
    const parts = await finishLoad(directory, plan, change, group)
    await tellAll(group, 'loaded')
    return parts
  } catch (error) {
    // Other ranks need not wait.
    group.abort((error as Error).message)
    throw fromNative(error)
  }
}

async function finishLoad(
  directory: string,
  recorded: LoadPlan,
  change: (spec: ModelSpec) => ModelSpec,
  group?: NativeGroup,
): Promise<LoadedParts> {
  const plan = { ...recorded, spec: change(recorded.spec) }
  const { options: o } = plan
  const { config } = plan.description
  const generation = await readGenerationConfig(directory)
  const tokenizer = await optionalTokenizer(directory, config)
  if (o.signal?.aborted)
    throw new MoeppError('ERR_ABORTED', 'loading was aborted', { cause: o.signal.reason })
  const runner = await openRunner(plan, group)
  return {
    runner,
    config,
    spec: plan.spec,
    generation,
    ...(runner instanceof GroupRunner && { lockstep: runner.lockstep }),
    ...(tokenizer && { tokenizer }),
  }
}

/** A checkpoint without tokenizer files takes and gives token ids only. */
async function optionalTokenizer(
  directory: string,
  config: ModelConfig,
): Promise<Tokenizer | undefined> {
  const files = ['tokenizer.json', 'tokenizer.model']
  if (!files.some(file => existsSync(join(directory, file)))) return undefined
  const tokenizer = await loadTokenizer(directory)
  if (tokenizer.vocabSize > config.vocabSize) {
    throw new MoeppError(
      'ERR_BAD_TOKENIZER',
      `${directory}: the tokenizer has ${tokenizer.vocabSize} tokens, but the embedding only ${config.vocabSize}`,
    )
  }
  return tokenizer
}

/**
 * Loads the model on the device that the options name. 'auto' is the first GPU if the model loads
 * on it, else the CPU.
 */
async function openRunner(plan: LoadPlan, group?: NativeGroup): Promise<DeviceRunner> {
  const { device } = plan.options
  if (device === 'cpu') return load(openCpu(plan), plan, { group })
  if (device !== 'auto') return load(openDevice(device), plan, { group })
  const gpu = findGpu()
  let reason: string
  if ('device' in gpu) {
    const why = tooLarge(gpu.device.info(), gpuBytes(plan))
    try {
      if (why === undefined) return await load(gpu.device, plan)
      gpu.device.close()
      reason = why
    } catch (error) {
      if (!isGpuFailure(error)) throw error
      reason = error.message
    }
  } else {
    reason = gpu.reason
  }
  if (!('expected' in gpu && gpu.expected)) warnFallback(reason)
  return load(openCpu(plan), plan, { reason })
}

/** The model on a GPU, with its largest step. */
function gpuBytes(plan: LoadPlan): number {
  return estimate(plan, { name: 'cuda', availableBytes: 0 }).totalBytes
}

function openCpu(plan: LoadPlan): NativeDevice {
  return openDevice('cpu', { threads: plan.options.threads, isa: isaOf(plan) })
}

/** Closes the device if anything fails. */
async function load(
  device: NativeDevice,
  planned: LoadPlan,
  {
    reason,
    group,
  }: { readonly reason?: string | undefined; readonly group?: NativeGroup | undefined } = {},
): Promise<DeviceRunner> {
  let program: NativeProgram | undefined
  try {
    const traits = traitsOf(device.info())
    const plan = planOn(planned, traits)
    const { description, spec, options } = plan
    checkMemory(plan, placeOf(device.info()))
    await (group && device.join(group))
    program = await compile(device, spec, options, group)
    const shape = cacheOf(plan, traits)
    const matrixType = matrixTypeOf(spec)
    const parts: RunnerParts = {
      device,
      program,
      cache: device.kvCache(shape),
      model: description,
      spec,
      ...(plan.group && { whole: plan.group.whole }),
      matrixType,
      kvCacheDtype: wordOf(shape.dtype),
      activationDtype: options.activationDtype,
      pages: shape.pages - traits.paddingPages,
      paddingPage: traits.paddingPages > 0 ? shape.pages - 1 : undefined,
      contextLength: contextLengthOf(plan),
      maxStepTokens: stepTokensOf(traits, group?.size),
      maxLogitRows: logitRowsOf(traits, description.config.vocabSize),
      draftingTokens: traits.draftingTokens[matrixType],
      description: describeDevice(device.info(), reason),
    }
    return group
      ? new GroupRunner(parts, group, options.parallelDeadlineMs)
      : new DeviceRunner(parts)
  } catch (error) {
    await program?.close()
    device.close()
    throw fromNative(error)
  }
}

/** Compiles off the main thread, with progress and cancellation. */
function compile(
  device: NativeDevice,
  spec: ProgramSpec,
  o: ResolvedLoadOptions,
  group?: NativeGroup,
): Promise<NativeProgram> {
  const totalBytes = weightBytes(spec)
  return runWatched(control => device.compile(spec, control, group), {
    signal: o.signal,
    // Panels are padded, so that native counts a little more than the weights have.
    onProgress: done =>
      o.onProgress?.({ stage: 'load', doneBytes: Math.min(done, totalBytes), totalBytes }),
    discard: program => program.close(),
  })
}
