/** The models of `moepp routing`: first described, so that wrong options show; loaded later. */

import { MoeppError } from '../errors.js'
import type { ModelDescription } from '../families/family.js'
import { recordShapes } from '../families/record.js'
import { readModel } from '../families/registry.js'
import { Model } from '../generation/model.js'
import { loadParts } from '../load/load.js'
import { contextLengthOf } from '../load/plan.js'
import { type LoadOptions, resolveLoadOptions } from '../options/generate.js'
import { type ModelSpec, type Router, routersOf } from '../program/model-spec.js'
import type { Picks } from '../routing/export/token-rows.js'
import { loadOptions } from './generate-options.js'
import type { Progress } from './progress.js'
import { modelDirectory, showProgress } from './source.js'

const MOST_WINDOW = 2048

export interface FoundModel {
  readonly name: string
  readonly directory: string
  readonly routers: readonly Router[]
  readonly contextLength: number
  /** Tokens of a window unless they are given. */
  readonly windowTokens: number
}

export interface LoadedModel extends AsyncDisposable {
  readonly model: Model
  readonly spec: ModelSpec
  readonly dtype: string
  readonly cacheDtype: 'f32' | 'bf16'
}

/** Downloads the model if it must, and reads its configuration. */
export async function findModel(
  name: string,
  flags: LoadOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<FoundModel> {
  const directory = await modelDirectory(name, flags, progress, signal)
  const description = await readModel(directory)
  const routers = routersOf(recordShapes(description))
  if (routers.length === 0)
    throw new MoeppError('ERR_UNSUPPORTED', `${name}: no layer of the model has experts`)
  const options = resolveLoadOptions(loadOptions(flags))
  const contextLength = contextLengthOf({ description, options })
  return {
    name,
    directory,
    routers,
    contextLength,
    windowTokens: window(description, contextLength),
  }
}

function window({ config }: ModelDescription, contextLength: number): number {
  return Math.min(MOST_WINDOW, config.maxPositionEmbeddings, contextLength)
}

export function picksOf(models: readonly FoundModel[]): Picks {
  const picks = models.flatMap(({ routers }) => routers.map(({ topK }) => topK))
  return { least: Math.min(...picks), most: Math.max(...picks) }
}

export async function loadFound(
  { name, directory }: FoundModel,
  flags: LoadOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<LoadedModel> {
  const onProgress = showProgress(progress)
  try {
    const options = resolveLoadOptions({ ...localOptions(flags), signal, onProgress })
    const parts = await loadParts(directory, options)
    if (!parts.tokenizer) {
      await parts.runner.close()
      throw new MoeppError('ERR_BAD_TOKENIZER', `${name}: the checkpoint has no tokenizer`)
    }
    const model = new Model(parts)
    const { matrixType: dtype } = parts.runner.info()
    const { spec, runner } = parts
    const cacheDtype = runner.cache.dtype
    return { model, spec, dtype, cacheDtype, [Symbol.asyncDispose]: () => model.close() }
  } finally {
    progress.stop()
  }
}

/** Options of a model that is on this machine. */
export function localOptions(flags: LoadOptions): LoadOptions {
  const { revision, token, endpoint, cacheDir, ...local } = loadOptions(flags)
  return local
}
