/** The model of `generate` and `chat`: its options are checked before the weights are read. */

import { readModel } from '../families/registry.js'
import { presetsOf, readGenerationConfig } from '../generation/generation-config.js'
import type { Model } from '../generation/model.js'
import { loadModel } from '../load/load.js'
import {
  type GenerateOptions,
  type LoadOptions,
  type ResolvedOptions,
  resolveGenerateOptions,
  resolveLoadOptions,
} from '../options/generate.js'
import { checkUsage } from './errors.js'
import { loadOptions } from './generate-options.js'
import type { Progress } from './progress.js'
import { modelDirectory, showProgress } from './source.js'

/** Resolves options as the model will. */
export type Resolve = (options: GenerateOptions) => ResolvedOptions

/** Limits of the model's configuration, known before the weights are. */
export interface Limits {
  readonly check: Resolve
  readonly vocabSize: number
}

export class ModelSource {
  readonly #name: string
  readonly #flags: LoadOptions
  readonly #progress: Progress
  readonly #signal: AbortSignal
  #directory: string | undefined

  constructor(name: string, flags: LoadOptions, progress: Progress, signal: AbortSignal) {
    this.#name = name
    this.#flags = flags
    this.#progress = progress
    this.#signal = signal
  }

  /** Finds a wrong option before anything is downloaded, where that needs no model. */
  checkEarly(options: GenerateOptions): void {
    checkUsage(() => resolveLoadOptions(loadOptions(this.#flags)))
    checkUsage(() => resolveGenerateOptions(options, {}, { vocabSize: Number.MAX_SAFE_INTEGER }))
  }

  /**
   * Downloads the checkpoint if it must, and reads its configuration. `defaults` hold where neither
   * a call nor the checkpoint says anything.
   */
  async open(defaults: GenerateOptions = {}): Promise<{
    readonly directory: string
    readonly resolve: Resolve
    readonly vocabSize: number
  }> {
    const directory = await modelDirectory(this.#name, this.#flags, this.#progress, this.#signal)
    const { config } = await readModel(directory)
    const below = { ...defaults, ...presetsOf(await readGenerationConfig(directory)) }
    this.#directory = directory
    const resolve: Resolve = options => resolveGenerateOptions(options, below, config)
    return { directory, resolve, vocabSize: config.vocabSize }
  }

  /** The model, after `open`. */
  async load(): Promise<Model> {
    const { revision, token, endpoint, cacheDir, ...local } = loadOptions(this.#flags)
    try {
      const onProgress = showProgress(this.#progress)
      return await loadModel(this.#directory!, { ...local, signal: this.#signal, onProgress })
    } finally {
      this.#progress.stop()
    }
  }
}
