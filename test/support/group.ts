/** A model on several ranks of a group, within this process. */
import { loadBinding, type NativeGroup } from '../../lib/addon/binding.js'
import { FAMILIES } from '../../lib/families/registry.js'
import { Model } from '../../lib/generation/model.js'
import { loadParts } from '../../lib/load/load.js'
import { type LoadOptions, resolveLoadOptions } from '../../lib/options/generate.js'

export const DEADLINE_MS = 20_000

export interface RankOptions {
  /** Of one rank. */
  readonly source?: string
  readonly options?: LoadOptions
}

export interface LocalGroup extends AsyncDisposable {
  /** By rank. */
  readonly models: readonly Model[]
  readonly groups: readonly NativeGroup[]
  /** Rank 0. */
  readonly model: Model
}

/** Loads a model on `size` ranks. `ofRank`: options that a rank has instead. */
export async function loadGroup(
  source: string,
  size: number,
  options: LoadOptions = {},
  ofRank: (rank: number) => RankOptions = () => ({}),
): Promise<LocalGroup> {
  const groups = loadBinding().localGroups(size, options.parallelDeadlineMs ?? DEADLINE_MS)
  const loads = groups.map(async (group, rank) => {
    const own = ofRank(rank)
    const load = resolveLoadOptions({
      device: 'cpu',
      threads: 1,
      parallel: 'mpi',
      parallelDeadlineMs: DEADLINE_MS,
      ...options,
      ...own.options,
    })
    return new Model(await loadParts(own.source ?? source, load, FAMILIES, undefined, group))
  })
  const settled = await Promise.allSettled(loads)
  const failed = settled.filter(each => each.status === 'rejected')
  if (failed.length > 0) throw new AggregateError(failed.map(({ reason }) => reason))
  const models = settled.map(each => (each as PromiseFulfilledResult<Model>).value)
  return {
    models,
    groups,
    model: models[0]!,
    async [Symbol.asyncDispose]() {
      await Promise.all(models.map(model => model.close()))
    },
  }
}
