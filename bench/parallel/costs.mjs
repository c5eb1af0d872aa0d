// Costs of a machine's ranks: measured under mpirun, put together, and taken for a step.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { Curve } from './model.mjs'
import { quantile } from './timing.mjs'

const CHILD = join(import.meta.dirname, 'rank.mjs')

/** The results of all ranks of a job: rank.mjs. */
export function runRanks({ mpirun, ranks, ...job }) {
  const folder = mkdtempSync(join(tmpdir(), 'moepp-bench-'))
  const starter =
    ranks > 1 || job.kind !== 'steps' ? [...mpirun.split(' '), '-n', String(ranks)] : []
  const words = JSON.stringify({ folder, ranks, ...job })
  const [command, ...args] = [...starter, process.execPath, CHILD, words]
  try {
    const { status } = spawnSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] })
    if (status !== 0) throw new Error(`${command}: status ${status}`)
    return readdirSync(folder)
      .sort((a, b) => a.length - b.length || (a < b ? -1 : 1))
      .map(name => JSON.parse(readFileSync(join(folder, name), 'utf8')))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/**
 * Of equal values the medians: numbers, or lists and objects of them. Texts are those of the first.
 */
export function medians(values) {
  const [first] = values
  if (typeof first === 'number') return quantile(values, 0.5)
  if (typeof first !== 'object') return first
  const of = key => medians(values.map(value => value[key]))
  if (Array.isArray(first)) return first.map((_, i) => of(i))
  return Object.fromEntries(Object.keys(first).map(key => [key, of(key)]))
}

/**
 * @param slots ranks that this machine computes at the same time: so many measure at once
 * @param sizes numbers of ranks whose transport is measured, 2 among them
 */
export function measureCosts(job, { slots, sizes }) {
  const { windows, ...rest } = job
  const compute = medians(runRanks({ ...job, kind: 'compute', ranks: slots }))
  const exchange = Object.fromEntries(
    sizes.map(ranks => {
      const { hidden } = compute
      return [ranks, medians(runRanks({ ...rest, hidden, kind: 'exchange', ranks }))]
    }),
  )
  const { model, dtype, threads, prompt } = job
  return {
    date: new Date().toISOString().slice(0, 10),
    machine: `${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} CPUs`,
    ...{ model, dtype, threads, prompt, slots, compute, exchange },
  }
}

/**
 * For `simulate` of model.mjs.
 *
 * @param phase 'decode' or 'prefill'
 * @param network of ranks on machines of their own; none: ranks of this machine, on its cores, with
 *   the transport that was measured between as many
 */
export function costsOf({ compute, exchange, slots }, phase, ranks, network) {
  const curve = column => new Curve(compute[phase].map(point => [point[0], point[column]]))
  const { message, localPick } = (!network && exchange[ranks]) || exchange[2]
  return {
    dense: curve(1),
    head: curve(2),
    expert: new Curve(compute.expert),
    message: new Curve(message),
    ...{ localPick, network },
    hidden: compute.hidden,
    rowBytes: compute.rowBytes,
    slots: network ? Number.POSITIVE_INFINITY : slots,
  }
}
