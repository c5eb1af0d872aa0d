/** `generate` and `stream`, and what chats begin their texts with. */
import { TimeSlice } from '../base/time-slice.js'
import type { Engine } from '../engine/engine.js'
import type { ModelConfig } from '../families/family.js'
import {
  type GenerateOptions,
  type ResolvedOptions,
  resolveGenerateOptions,
} from '../options/generate.js'
import { randomSeed } from '../sampling/rng.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import type { GenerationConfig } from './generation-config.js'
import { deferred, type Job, settleAll } from './job.js'
import type { PositionWarning } from './positions.js'
import {
  checkPrompt,
  noTokenizer,
  type Prompt,
  type PromptContext,
  promptIds,
  splitBatch,
} from './prompt.js'
import type { GenerateResult } from './results.js'
import { GenerationStream } from './stream.js'
import { TextGeneration, type TextGenerationParts } from './text-generation.js'
import { tracedGenerate, tracedStream, traceOf } from './traced-calls.js'

export interface TextCallsParts {
  readonly engine: Engine
  readonly config: ModelConfig
  readonly generation: GenerationConfig
  readonly tokenizer: Tokenizer | undefined
  readonly prompts: PromptContext
  readonly positions: PositionWarning
}

/** The parts of a text that differ from text to text. */
export type OwnParts = Pick<TextGenerationParts, 'promptIds' | 'options'> &
  Partial<Pick<TextGenerationParts, 'stream' | 'onChunk' | 'skipSpecialTokens'>> & {
    /** Besides those of the checkpoint and the options. */
    readonly endTokenIds?: readonly number[]
  }

export class TextCalls {
  readonly #parts: TextCallsParts
  readonly #presets: Partial<GenerateOptions>
  readonly #eosTokenIds: readonly number[]

  constructor(parts: TextCallsParts) {
    this.#parts = parts
    // numReturnSequences is left out: a checkpoint has no say in whether a call returns an array.
    const { bosTokenId, padTokenId, eosTokenIds, numReturnSequences, ...presets } = parts.generation
    this.#presets = presets
    this.#eosTokenIds = eosTokenIds ?? parts.config.eosTokenIds
  }

  async generate(
    prompt: Prompt | readonly Prompt[],
    options: GenerateOptions,
  ): Promise<GenerateResult | GenerateResult[]> {
    const resolved = this.resolve(options)
    const { prompts: context, engine } = this.#parts
    const { prompts, isBatch, name } = splitBatch(prompt, 'prompt')
    const generations: TextGeneration[] = []
    const slice = new TimeSlice()
    for (const [i, each] of prompts.entries()) {
      await slice.pauseIfOver()
      const ids = await promptIds(checkPrompt(each, name(i), context), name(i), context, resolved)
      const own = options.seed === undefined ? { ...resolved, seed: randomSeed() } : resolved
      for (let n = 0; n < resolved.numReturnSequences; n++)
        generations.push(this.text({ promptIds: ids, options: own, stream: n }))
    }
    const results = await tracedGenerate(
      () => traceOf('generate', engine.device, generations),
      () =>
        settleAll(
          generations.map(generation => generation.start(engine)),
          resolved.signal,
        ),
    )
    return isBatch || options.numReturnSequences !== undefined ? results : results[0]!
  }

  stream(prompt: Prompt, options: GenerateOptions): GenerationStream {
    const resolved = this.resolve(options)
    const { prompts: context } = this.#parts
    const { prompts, isBatch } = splitBatch(prompt, 'prompt')
    if (isBatch) throw new TypeError('prompt: expected one prompt to stream, got several')
    if (resolved.numReturnSequences > 1) {
      throw new RangeError(
        `numReturnSequences: expected 1 for a stream, got ${resolved.numReturnSequences}`,
      )
    }
    const checked = checkPrompt(prompts[0], 'prompt', context)
    return new GenerationStream(
      onChunk =>
        deferred(resolved.signal, async signal => {
          const own = { ...resolved, signal }
          const ids = await promptIds(checked, 'prompt', context, own)
          return this.traced('stream', this.text({ promptIds: ids, options: own, onChunk }))
        }),
      resolved.signal,
    )
  }

  /** @throws TypeError, RangeError; MoeppError ERR_BAD_CONFIG, ERR_BAD_TOKENIZER */
  resolve(options: GenerateOptions): ResolvedOptions {
    const { config, tokenizer } = this.#parts
    const resolved = resolveGenerateOptions(options, this.#presets, config)
    if (resolved.stop.length > 0 && !tokenizer) throw noTokenizer('the option stop')
    return resolved
  }

  text({ endTokenIds = [], stream = 0, ...own }: OwnParts): TextGeneration {
    const { engine, tokenizer, positions, prompts } = this.#parts
    const ends = own.options.ignoreEos ? [] : [...this.#eosTokenIds, ...endTokenIds]
    return new TextGeneration({
      ...own,
      stream,
      endTokenIds: new Set([...ends, ...own.options.stopTokenIds]),
      maxTokens: prompts.maxTokens,
      routers: engine.routers,
      tokenizer,
      positions,
    })
  }

  /** Starts a text, which tracing channels show. */
  traced(call: 'stream' | 'chat' | 'streamChat', text: TextGeneration): Job<GenerateResult> {
    const { engine } = this.#parts
    return tracedStream(
      () => traceOf(call, engine.device, [text]),
      () => text.start(engine),
    )
  }
}
