/** Results of a Model's calls. */
import type { ExpertKind } from '../program/expert-kinds.js'
import type { TokenLogprobs } from '../sampling/sampler.js'

/**
 * Tokens of one text.
 *
 * @example
 * ```ts
 * import { loadModel, type Usage } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const computed = ({ promptTokens, cachedTokens }: Usage) => promptTokens - cachedTokens
 * const { usage } = await model.generate('The old man', { maxNewTokens: 8 })
 * console.log(computed(usage))
 * ```
 */
export interface Usage {
  /**
   * Tokens of the prompt, special tokens included. 0 if an abort came before the prompt was
   * encoded.
   */
  readonly promptTokens: number
  /** Tokens that were generated: the length of tokenIds. */
  readonly generatedTokens: number
  /** Tokens of the prompt that did not have to be computed: an earlier text began with them. */
  readonly cachedTokens: number
  /** Tokens that were computed as guesses, if the option `speculate` is given. */
  readonly draftedTokens?: number
  /** Guesses that came, if the option is given: each has saved a step. */
  readonly acceptedTokens?: number
}

/**
 * Times of one text, in milliseconds.
 *
 * @example
 * ```ts
 * import { loadModel, type Timings } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const firstToken = ({ queueMs, prefillMs }: Timings) => queueMs + prefillMs
 * const { timings } = await model.generate('The old man', { maxNewTokens: 8 })
 * console.log(`${firstToken(timings).toFixed(1)} ms to the first token`)
 * ```
 */
export interface Timings {
  /** From the call to the first step of this text. Other texts ran in that time. */
  readonly queueMs: number
  /**
   * From the first step to the first token, or to the prompt's end if none is wanted. 0 if an abort
   * came before.
   */
  readonly prefillMs: number
  /** From the first token to the last. */
  readonly decodeMs: number
  /** Computed tokens of the prompt, per second of prefillMs; 0 if nothing was measured. */
  readonly prefillTokensPerSecond: number
  /** Generated tokens but the first, per second of decodeMs; 0 if nothing was measured. */
  readonly decodeTokensPerSecond: number
}

/**
 * The experts that one layer sent its tokens to.
 *
 * @example
 * ```ts
 * import { type LayerRouting, loadModel } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const ffnPicks = ({ expertIndices, kinds }: LayerRouting) =>
 *   expertIndices.filter(expert => kinds[expert] === 'ffn').length
 * const { routing } = await model.generate('The old man', { routing: true })
 * console.log(routing?.layers.map(ffnPicks))
 * ```
 */
export interface LayerRouting {
  /** Number of the layer: a model may have layers without experts. */
  readonly layer: number
  /** K: experts that each token chooses. */
  readonly topK: number
  /** [E] the kind of each expert, by its number. */
  readonly kinds: readonly ExpertKind[]
  /** [T, K] the experts that each token chose, row-major. */
  readonly expertIndices: Int32Array
  /** [T, K] their weights, before zero-computation experts are taken out. */
  readonly expertWeights: Float32Array
}

/**
 * The tokens of one layer by the number of their FFN experts.
 *
 * @example
 * ```ts
 * import { type ExpertCounts, loadModel } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const free = ({ tokens }: ExpertCounts) => tokens[0]
 * const { routing } = await model.generate('The old man', { routing: 'counts' })
 * console.log('tokens without any FFN expert, by layer:', routing?.counts.map(free))
 * ```
 */
export interface ExpertCounts {
  /** Number of the layer: a model may have layers without experts. */
  readonly layer: number
  /** [K+1] `tokens[k]` is the number of tokens with k FFN experts of a weight above 0. */
  readonly tokens: readonly number[]
}

/**
 * The experts that the tokens of a text went to: the report of the option `routing`.
 *
 * @example
 * ```ts
 * import { loadModel, type Routing } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const result = await model.generate('The old man', { routing: true })
 * const routing: Routing | undefined = result.routing
 * console.log(`${routing?.ffnExpertsPerToken.toFixed(2)} FFN experts per token`)
 * ```
 */
export interface Routing {
  /**
   * Number of the first token, in prompt and text: 0, or behind the cached ones with
   * `routing: 'computed'` or 'counts'.
   */
  readonly first: number
  /**
   * T: the prompt's tokens and the generated ones from there on, but for the last, which was never
   * an input. Of `Model.forward`, all tokens.
   */
  readonly tokens: number
  /** Of each layer with experts; none with `routing: 'counts'`. */
  readonly layers: readonly LayerRouting[]
  /** Of each layer with experts. */
  readonly counts: readonly ExpertCounts[]
  /** Mean over tokens and layers of the FFN experts with a weight above 0: 0 to K. */
  readonly ffnExpertsPerToken: number
}

/**
 * The reason that a text ended.
 *
 * - 'stop': an end token or a stop string came
 * - 'length': maxNewTokens, or what the context or the KV cache holds, is reached
 * - 'abort': the signal aborted, or the reader left the stream
 *
 * @example
 * ```ts
 * import { type FinishReason, loadModel } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const { finishReason } = await model.generate('The old man', { stop: '.' })
 * const wasCut: Record<FinishReason, boolean> = { stop: false, length: true, abort: true }
 * console.log(wasCut[finishReason])
 * ```
 */
export type FinishReason = 'stop' | 'length' | 'abort'

/**
 * One generated text.
 *
 * @example
 * ```ts
 * import { type GenerateResult, loadModel } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const result: GenerateResult = await model.generate('The old man', { maxNewTokens: 16 })
 * console.log(result.text, result.tokenIds.length, result.finishReason)
 * ```
 */
export interface GenerateResult {
  /**
   * The continuation alone, leading space included: " man" after "The old". It holds no end token,
   * no stop string and nothing after one. Empty if the checkpoint has no tokenizer.
   */
  readonly text: string
  /** The new tokens. As in Hugging Face, the end token or the stop string's tokens are in it. */
  readonly tokenIds: number[]
  /** The reason that it ended. */
  readonly finishReason: FinishReason
  /** Tokens of the call. */
  readonly usage: Usage
  /** Times of its phases. */
  readonly timings: Timings
  /** One entry for each of tokenIds, if the option `logprobs` is given. */
  readonly logprobs?: TokenLogprobs[]
  /**
   * One entry for each token of the prompt, if the option `promptLogprobs` is given. The first is
   * null: nothing comes before it. After an abort there may be fewer.
   */
  readonly promptLogprobs?: (TokenLogprobs | null)[]
  /** If the option `routing` is given. */
  readonly routing?: Routing
}

/**
 * The FFN experts of tokens of a stream. Token i of the text is number `promptTokens` + i.
 *
 * @example
 * ```ts
 * import { type ChunkRouting, loadModel } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const experts: number[] = []
 * const note = ({ first, promptTokens, ffnExperts }: ChunkRouting) => {
 *   for (const [i, each] of ffnExperts.entries()) experts[first - promptTokens + i] = each
 * }
 * for await (const { routing } of model.stream('The old man', { routing: 'computed' }))
 *   if (routing) note(routing)
 * console.log(experts)
 * ```
 */
export interface ChunkRouting {
  /** Number of the first of these tokens, in prompt and text. */
  readonly first: number
  /** Tokens of the prompt. */
  readonly promptTokens: number
  /** Of each token, the mean over layers of the FFN experts with a weight above 0: 0 to K. */
  readonly ffnExperts: readonly number[]
}

/**
 * A piece of a stream. All chunks together have the text and the tokens of the result, unless the
 * stream was aborted.
 *
 * @example
 * ```ts
 * import { type GenerateChunk, loadModel } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const show = ({ text }: GenerateChunk) => process.stdout.write(text)
 * for await (const chunk of model.stream('The old man')) show(chunk)
 * ```
 */
export interface GenerateChunk {
  /** Whole characters. Empty only in the last chunk, or where the checkpoint has no tokenizer. */
  readonly text: string
  /** The tokens since the chunk before. */
  readonly tokenIds: number[]
  /** One entry for each of tokenIds, if the option `logprobs` is given. */
  readonly logprobs?: TokenLogprobs[]
  /**
   * If the option `routing` is given: the tokens that were computed since the chunk before. A token
   * is computed after its chunk, so it comes one chunk late. In the first chunk the prompt's come,
   * but for cached ones with 'computed' and 'counts'. The last token of a text is never computed.
   *
   * All chunks together have each token of the result's `routing` once, in order. Guesses that did
   * not come have none, and a token that is computed again comes once.
   */
  readonly routing?: ChunkRouting
}

/**
 * Result of `Model.forward` for one text of T tokens.
 *
 * @example
 * ```ts
 * import { type ForwardResult, loadModel } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const { vocabSize } = model.config
 * const lastRow = ({ logits }: ForwardResult) => logits.subarray(-vocabSize)
 * console.log(lastRow(await model.forward(model.tokenizer.encode('The old'))).length)
 * ```
 */
export interface ForwardResult {
  /** [T, vocabSize] the logits after each token, row-major. Empty with `logits: false`. */
  readonly logits: Float32Array
  /** Each captured buffer by its name, [T, ...]. */
  readonly captured: Readonly<Record<string, Float32Array | Int32Array>>
  /** The experts of all T tokens, if the option `routing` is given. */
  readonly routing?: Routing
}

/**
 * Result of `Model.score` for one continuation.
 *
 * @example
 * ```ts
 * import { loadModel, type ScoreResult } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const perToken = ({ logprob, tokenIds }: ScoreResult) => logprob / tokenIds.length
 * console.log(perToken(await model.score('The old', ' man')))
 * ```
 */
export interface ScoreResult {
  /** The continuation's tokens. */
  readonly tokenIds: number[]
  /** Natural logarithm of each token's probability after all before it. */
  readonly logprobs: number[]
  /** For each token: true if it was the likeliest. Of equal ones the lowest id is. */
  readonly greedy: boolean[]
  /** Sum of the logprobs. */
  readonly logprob: number
}
