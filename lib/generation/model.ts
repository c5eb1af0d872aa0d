/** A loaded model: what `loadModel` returns. */
import type { GenerationConfig, ModelConfig } from '../config.js'
import type { ModelDevice } from '../device.js'
import { Engine } from '../engine/engine.js'
import type { Runner } from '../engine/runner.js'
import { TimeSlice } from '../engine/time-slice.js'
import { MoeppError } from '../errors.js'
import { type GenerateOptions, type ResolvedOptions, resolveGenerateOptions } from '../options.js'
import { randomSeed } from '../sampling/rng.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import { captureNames } from './capture.js'
import { Forward } from './forward.js'
import { aborted, deferred, settleAll } from './job.js'
import {
  checkLength,
  checkPrompt,
  checkTokenIds,
  type EncodeHow,
  emptyPrompt,
  encode,
  noTokenizer,
  type Prompt,
  type PromptContext,
  promptIds,
  splitBatch,
  type TokenIds,
} from './prompt.js'
import type { ForwardResult, GenerateChunk, GenerateResult, ScoreResult } from './results.js'
import { Scoring } from './scoring.js'
import { GenerationStream } from './stream.js'
import { TextGeneration } from './text-generation.js'

export interface ModelParts {
  /** Closed with the model. */
  readonly runner: Runner
  readonly config: ModelConfig
  readonly generation: GenerationConfig
  /** Absent: the model takes and gives token ids only. */
  readonly tokenizer?: Tokenizer
}

export interface ForwardOptions {
  /**
   * Buffers to return, by name: `layers.3.router_logits`, with `*` for one part of a name. Those of
   * layers are router_logits [T, E], expert_indices and expert_weights [T, K], moe_output [T, H];
   * and hidden_states.0 (embeddings) to hidden_states.L, final_hidden [T, H].
   */
  capture?: readonly string[]
  signal?: AbortSignal
}

export interface ScoreOptions {
  /** As in GenerateOptions; for a prompt that is a text. */
  addSpecialTokens?: boolean
  signal?: AbortSignal
}

/** Several calls at once are computed together, and do not change each other's results. */
export class Model {
  readonly config: ModelConfig
  /** Where the model runs, and why when `device: 'auto'` did not take a GPU. */
  readonly device: ModelDevice
  readonly #engine: Engine
  readonly #tokenizer: Tokenizer | undefined
  readonly #captureNames: readonly string[]
  readonly #presets: Partial<GenerateOptions>
  readonly #eosTokenIds: readonly number[]
  readonly #prompts: PromptContext

  constructor({ runner, config, generation, tokenizer }: ModelParts) {
    this.config = config
    this.device = runner.device
    this.#engine = new Engine(runner)
    this.#tokenizer = tokenizer
    this.#captureNames = runner.captureNames
    // numReturnSequences is left out: a checkpoint has no say in whether a call returns an array.
    const { bosTokenId, padTokenId, eosTokenIds, numReturnSequences, ...presets } = generation
    this.#presets = presets
    this.#eosTokenIds = eosTokenIds ?? config.eosTokenIds
    this.#prompts = {
      tokenizer,
      vocabSize: config.vocabSize,
      contextLength: runner.contextLength,
      maxTokens: this.#engine.maxTokens,
    }
  }

  /** @throws MoeppError ERR_BAD_TOKENIZER if the checkpoint has none */
  get tokenizer(): Tokenizer {
    if (!this.#tokenizer) throw noTokenizer('text')
    return this.#tokenizer
  }

  /**
   * Continues a prompt, or each of an array of prompts. The results come in order,
   * `numReturnSequences` of them for each prompt, one after the other; one result and no array for
   * one prompt, unless numReturnSequences is given.
   *
   * A prompt in a batch gives what it gives alone, with a seed too. Without a seed, each prompt has
   * one of its own.
   * @throws MoeppError ERR_BAD_PROMPT, ERR_BAD_TOKENIZER, ERR_CLOSED, ERR_DEVICE; TypeError or
   *   RangeError for a wrong
   *   argument
   */
  generate(
    prompt: Prompt,
    options: GenerateOptions & { numReturnSequences: number },
  ): Promise<GenerateResult[]>
  generate(prompt: Prompt, options?: GenerateOptions): Promise<GenerateResult>
  generate(prompts: readonly Prompt[], options?: GenerateOptions): Promise<GenerateResult[]>
  generate(
    prompt: Prompt | readonly Prompt[],
    options?: GenerateOptions,
  ): Promise<GenerateResult | GenerateResult[]>
  async generate(
    prompt: Prompt | readonly Prompt[],
    options: GenerateOptions = {},
  ): Promise<GenerateResult | GenerateResult[]> {
    this.#checkOpen()
    const resolved = this.#resolve(options)
    const { prompts, isBatch, name } = splitBatch(prompt, 'prompt')
    const generations: TextGeneration[] = []
    const slice = new TimeSlice()
    for (const [i, each] of prompts.entries()) {
      await slice.pauseIfOver()
      const checked = checkPrompt(each, name(i), this.#prompts)
      const ids = await promptIds(checked, name(i), this.#prompts, resolved)
      const own = options.seed === undefined ? { ...resolved, seed: randomSeed() } : resolved
      for (let n = 0; n < resolved.numReturnSequences; n++)
        generations.push(this.#generation(ids, own, n))
    }
    const results = await settleAll(
      generations.map(generation => generation.start(this.#engine)),
      resolved.signal,
    )
    return isBatch || options.numReturnSequences !== undefined ? results : results[0]!
  }

  /**
   * Continues one prompt, piece by piece. Leaving the loop ends the work at once; an abort ends the
   * loop.
   * @throws as generate: for wrong arguments at once, for all else while it is read
   */
  stream(prompt: Prompt, options: GenerateOptions = {}): GenerationStream {
    this.#checkOpen()
    const resolved = this.#resolve(options)
    const { prompts, isBatch } = splitBatch(prompt, 'prompt')
    if (isBatch) throw new TypeError('prompt: expected one prompt to stream, got several')
    if (resolved.numReturnSequences > 1) {
      throw new RangeError(
        `numReturnSequences: expected 1 for a stream, got ${resolved.numReturnSequences}`,
      )
    }
    const checked = checkPrompt(prompts[0], 'prompt', this.#prompts)
    return new GenerationStream(
      onChunk =>
        deferred(resolved.signal, async signal => {
          const options = { ...resolved, signal }
          const ids = await promptIds(checked, 'prompt', this.#prompts, options)
          return this.#generation(ids, options, 0, onChunk).start(this.#engine)
        }),
      resolved.signal,
    )
  }

  /**
   * Logits of every position of a text, given as token ids, and captured buffers. An array of texts
   * gives an array.
   * @throws as generate; MoeppError ERR_ABORTED if the signal aborts
   */
  forward(tokens: TokenIds, options?: ForwardOptions): Promise<ForwardResult>
  forward(tokens: readonly TokenIds[], options?: ForwardOptions): Promise<ForwardResult[]>
  async forward(
    tokens: TokenIds | readonly TokenIds[],
    options: ForwardOptions = {},
  ): Promise<ForwardResult | ForwardResult[]> {
    this.#checkOpen()
    const signal = checkOptions(options, ['capture', 'signal'])
    const capture = captureNames(options.capture, this.#captureNames)
    const { prompts, isBatch, name } = splitBatch(tokens, 'tokens')
    const { vocabSize } = this.config
    const ids = prompts.map((each, i) => {
      const checked = checkTokenIds(each, name(i), vocabSize)
      if (checked.length === 0) throw emptyPrompt(name(i))
      checkLength(checked.length, name(i), this.#prompts)
      return checked
    })
    if (signal?.aborted) throw aborted(signal)
    const jobs = ids.map(each => new Forward(each, capture, vocabSize).start(this.#engine, signal))
    const results = await settleAll(jobs, signal)
    return isBatch ? results : results[0]!
  }

  /**
   * Probability of each token of a continuation. Two texts are cut into tokens as one; the
   * continuation's are those after the tokens that the prompt alone begins with too. (As in
   * lm-evaluation-harness, but where a token reaches from one into the other, it is the
   * continuation's.) Token ids are taken as they are; a text and ids are cut on their own.
   * @throws as generate; MoeppError ERR_ABORTED if the signal aborts
   */
  async score(
    prompt: Prompt,
    continuation: Prompt,
    options: ScoreOptions = {},
  ): Promise<ScoreResult> {
    this.#checkOpen()
    const signal = checkOptions(options, ['addSpecialTokens', 'signal'])
    const ids = await this.#scoredIds(prompt, continuation, {
      addSpecialTokens: options.addSpecialTokens,
      signal,
    })
    if (ids.prompt.length === 0) throw emptyPrompt('prompt')
    if (ids.continuation.length === 0) throw emptyPrompt('continuation')
    checkLength(
      ids.prompt.length + ids.continuation.length - 1,
      'prompt and continuation',
      this.#prompts,
    )
    if (signal?.aborted) throw aborted(signal)
    const job = new Scoring(ids.prompt, ids.continuation).start(this.#engine, signal)
    const [result] = await settleAll([job], signal)
    return result!
  }

  /** Ends all calls with ERR_CLOSED, waits for the step under way and frees everything. */
  close(): Promise<void> {
    return this.#engine.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #checkOpen(): void {
    if (this.#engine.isClosed) throw new MoeppError('ERR_CLOSED', 'the model is closed')
  }

  #resolve(options: GenerateOptions): ResolvedOptions {
    const resolved = resolveGenerateOptions(options, this.#presets, this.config)
    if (resolved.stop.length > 0 && !this.#tokenizer) throw noTokenizer('the option stop')
    return resolved
  }

  #generation(
    ids: readonly number[],
    options: ResolvedOptions,
    stream: number,
    onChunk?: (chunk: GenerateChunk) => void,
  ): TextGeneration {
    const ends = options.ignoreEos
      ? options.stopTokenIds
      : [...this.#eosTokenIds, ...options.stopTokenIds]
    return new TextGeneration({
      promptIds: ids,
      options,
      stream,
      endTokenIds: new Set(ends),
      maxTokens: this.#prompts.maxTokens,
      config: this.config,
      tokenizer: this.#tokenizer,
      ...(onChunk && { onChunk }),
    })
  }

  async #scoredIds(prompt: Prompt, continuation: Prompt, how: EncodeHow) {
    const { vocabSize } = this.config
    // What follows the last token is not asked for.
    const most = this.#prompts.maxTokens + 1
    const ids = (text: Prompt, name: string, own = how, maxTokens = most) =>
      typeof text === 'string'
        ? encode(text, name, this.#prompts, own, maxTokens)
        : checkTokenIds(text, name, vocabSize)
    if (typeof prompt !== 'string' || typeof continuation !== 'string') {
      const more = typeof prompt === 'string' ? how : { ...how, addSpecialTokens: false }
      return {
        prompt: await ids(prompt, 'prompt'),
        continuation: await ids(continuation, 'continuation', more),
      }
    }
    const whole = await ids(prompt + continuation, 'prompt and continuation')
    // Alone, it may have more tokens than with what follows.
    const alone = await ids(prompt, 'prompt', how, Number.MAX_SAFE_INTEGER)
    const differs = whole.findIndex((id, i) => id !== alone[i])
    const border = differs === -1 ? whole.length : differs
    return { prompt: whole.slice(0, border), continuation: whole.slice(border) }
  }
}

/** The signal of options that may have the names of `known`. */
function checkOptions(
  options: { signal?: AbortSignal; addSpecialTokens?: boolean },
  known: readonly string[],
): AbortSignal | undefined {
  if (typeof options !== 'object' || options === null)
    throw new TypeError('options: expected an object')
  const unknown = Object.keys(options).find(name => !known.includes(name))
  if (unknown !== undefined) {
    throw new TypeError(
      `unknown option ${JSON.stringify(unknown)}: expected one of ${known.join(', ')}`,
    )
  }
  const { signal, addSpecialTokens } = options
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new TypeError('signal: expected an AbortSignal')
  }
  if (addSpecialTokens !== undefined && typeof addSpecialTokens !== 'boolean') {
    throw new TypeError('addSpecialTokens: expected true or false')
  }
  return signal
}
