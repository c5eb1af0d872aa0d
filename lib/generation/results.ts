/** Results of a Model's calls. */
import type { TokenLogprobs } from '../sampling/sampler.js'

/** Tokens of one text. */
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
}

/** Times of one text, in milliseconds. */
export interface Timings {
  /** From the call to the first step of this text. Other texts ran in that time. */
  readonly queueMs: number
  /** From the first step to the first token; 0 if no token was generated. */
  readonly prefillMs: number
  /** From the first token to the last. */
  readonly decodeMs: number
  /** Computed tokens of the prompt, per second of prefillMs; 0 if nothing was measured. */
  readonly prefillTokensPerSecond: number
  /** Generated tokens but the first, per second of decodeMs; 0 if nothing was measured. */
  readonly decodeTokensPerSecond: number
}

/** The experts that one layer sent its tokens to. */
export interface LayerRouting {
  /**
   * [T, K] the experts that each token chose, row-major. Experts from config.ffnExperts on have no
   * feed-forward network: two constant experts, the copy expert and the zero expert.
   */
  readonly expertIndices: Int32Array
  /** [T, K] their weights, before zero-computation experts are taken out. */
  readonly expertWeights: Float32Array
}

/** The experts that the tokens of a text went to: the report of the option `routing`. */
export interface Routing {
  /** T: the prompt's tokens and the generated ones, but for the last, which was never an input. */
  readonly tokens: number
  /** By layer. */
  readonly layers: readonly LayerRouting[]
  /** Mean over tokens and layers of the FFN experts with a weight above 0: 0 to K. */
  readonly ffnExpertsPerToken: number
}

/**
 * The reason that a text ended.
 *
 * - 'stop': an end token or a stop string came
 * - 'length': maxNewTokens, or what the context or the KV cache holds, is reached
 * - 'abort': the signal aborted, or the reader left the stream
 */
export type FinishReason = 'stop' | 'length' | 'abort'

/** One generated text. */
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
  /** If the option `routing` is given. */
  readonly routing?: Routing
}

/**
 * A piece of a stream. All chunks together have the text and the tokens of the result, unless the
 * stream was aborted.
 */
export interface GenerateChunk {
  /** Whole characters. Empty only in the last chunk, or where the checkpoint has no tokenizer. */
  readonly text: string
  /** The tokens since the chunk before. */
  readonly tokenIds: number[]
  /** One entry for each of tokenIds, if the option `logprobs` is given. */
  readonly logprobs?: TokenLogprobs[]
}

/** Result of `Model.forward` for one text of T tokens. */
export interface ForwardResult {
  /** [T, vocabSize] the logits after each token, row-major. */
  readonly logits: Float32Array
  /** Each captured buffer by its name, [T, ...]. */
  readonly captured: Readonly<Record<string, Float32Array | Int32Array>>
}

/** Result of `Model.score` for one continuation. */
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
