/** Makes the generations of a model's calls: their options, end tokens and grammars. */
import { once } from 'node:events'
import type { Engine } from '../engine/engine.js'
import type { ModelConfig } from '../families/family.js'
import { type GrammarLease, Grammars } from '../grammar/grammars.js'
import {
  type GenerateOptions,
  type ResolvedOptions,
  resolveGenerateOptions,
} from '../options/generate.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import type { GenerationConfig } from './generation-config.js'
import type { PositionWarning } from './positions.js'
import { noTokenizer } from './prompt.js'
import type { GenerateChunk } from './results.js'
import { TextGeneration } from './text-generation.js'

export interface TextGenerationsParts {
  readonly engine: Engine
  readonly config: ModelConfig
  readonly generation: GenerationConfig
  readonly tokenizer: Tokenizer | undefined
  readonly positions: PositionWarning
}

export class TextGenerations {
  readonly #parts: TextGenerationsParts
  readonly #presets: Partial<GenerateOptions>
  readonly #eosTokenIds: readonly number[]
  readonly #grammars: Grammars | undefined

  constructor(parts: TextGenerationsParts) {
    const { config, generation, tokenizer } = parts
    this.#parts = parts
    // numReturnSequences is left out: a checkpoint has no say in whether a call returns an array.
    const { bosTokenId, padTokenId, eosTokenIds, numReturnSequences, ...presets } = generation
    this.#presets = presets
    this.#eosTokenIds = eosTokenIds ?? config.eosTokenIds
    this.#grammars = tokenizer && new Grammars(tokenizer.pieces, config.vocabSize)
  }

  resolve(options: GenerateOptions): ResolvedOptions {
    const { config, tokenizer } = this.#parts
    const resolved = resolveGenerateOptions(options, this.#presets, config)
    if (resolved.stop.length > 0 && !tokenizer) throw noTokenizer('the option stop')
    if (resolved.grammar && !tokenizer) throw noTokenizer('the option grammar')
    return resolved
  }

  /**
   * The grammar of a call, compiled, if it has one and the signal does not abort before. It must be
   * disposed of when the call ends.
   * @throws MoeppError ERR_BAD_GRAMMAR
   */
  async grammar({ grammar, signal }: ResolvedOptions): Promise<GrammarLease | undefined> {
    if (!grammar || signal?.aborted) return undefined
    const lease = this.#grammars!.lease(grammar)
    return signal ? untilAbort(lease, signal) : lease
  }

  create(
    ids: readonly number[],
    options: ResolvedOptions,
    stream: number,
    grammar: GrammarLease | undefined,
    onChunk?: (chunk: GenerateChunk) => void,
  ): TextGeneration {
    const { engine, tokenizer, positions } = this.#parts
    const ends = options.ignoreEos
      ? options.stopTokenIds
      : [...this.#eosTokenIds, ...options.stopTokenIds]
    return new TextGeneration({
      promptIds: ids,
      options,
      stream,
      endTokenIds: new Set(ends),
      maxTokens: engine.maxTokens,
      routers: engine.routers,
      tokenizer,
      positions,
      grammar,
      ...(onChunk && { onChunk }),
    })
  }

  /** Ends the threads of grammars. */
  close(): void {
    this.#grammars?.close()
  }
}

/** undefined if the signal aborts first. */
async function untilAbort<T extends Disposable>(
  resource: Promise<T>,
  signal: AbortSignal,
): Promise<T | undefined> {
  const done = new AbortController()
  const aborted = once(signal, 'abort', { signal: done.signal }).then(
    () => undefined,
    () => undefined,
  )
  try {
    const first = await Promise.race([resource, aborted])
    if (first === undefined) resource.then(late => late[Symbol.dispose]()).catch(() => {})
    return first
  } finally {
    done.abort()
  }
}
