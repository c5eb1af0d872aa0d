/** What the calls of a Model give. */
import type { TokenLogprobs } from '../sampling/sampler.js'

export interface Usage {
  /**
   * Tokens of the prompt, special tokens included. 0 if an abort came before the prompt was
   * encoded.
   */
  readonly promptTokens: number
  readonly generatedTokens: number
  /** Tokens of the prompt that did not have to be computed: an earlier text began with them. */
  readonly cachedTokens: number
}

export interface Timings {
  /** From the call to the first step, while others ran. */
  readonly queueMs: number
  /** From the first step to the first token. */
  readonly prefillMs: number
  /** From the first token to the last. */
  readonly decodeMs: number
  /** Computed tokens of the prompt, per second of prefillMs; 0 if nothing was measured. */
  readonly prefillTokensPerSecond: number
  /** Generated tokens but the first, per second of decodeMs; 0 if nothing was measured. */
  readonly decodeTokensPerSecond: number
}

export interface LayerRouting {
  /**
   * [T, K] experts that each token chose. Those from config.ffnExperts on do without a feed-forward
   * network.
   */
  readonly expertIndices: Int32Array
  /** [T, K] their weights, before zero-computation experts are taken out. */
  readonly expertWeights: Float32Array
}

export interface Routing {
  /** T: the prompt's tokens and the generated ones, but for the last, which was never an input. */
  readonly tokens: number
  /** By layer. */
  readonly layers: readonly LayerRouting[]
  /** Mean over tokens and layers of the FFN experts with a weight above 0: 0 to K. */
  readonly ffnExpertsPerToken: number
}

/**
 * 'stop': an end token or stop string; 'length': maxNewTokens or the context is reached; 'abort':
 * the signal.
 */
export type FinishReason = 'stop' | 'length' | 'abort'

export interface GenerateResult {
  /**
   * The text that continues the prompt's: after "The old", " man", with its space. Without end
   * tokens, the stop string and what follows it.
   */
  readonly text: string
  /** The new tokens: as in Hugging Face, with the end token, or the tokens of the stop string. */
  readonly tokenIds: number[]
  readonly finishReason: FinishReason
  readonly usage: Usage
  readonly timings: Timings
  /** One entry for each of tokenIds, if the option `logprobs` is given. */
  readonly logprobs?: TokenLogprobs[]
  /** If the option `routing` is given. */
  readonly routing?: Routing
}

/** A piece of a stream. The texts of all chunks, and their tokens, are those of the result. */
export interface GenerateChunk {
  /** Whole characters. Empty only in the last chunk, or where the checkpoint has no tokenizer. */
  readonly text: string
  /** The tokens since the chunk before. */
  readonly tokenIds: number[]
  readonly logprobs?: TokenLogprobs[]
}

export interface ForwardResult {
  /** [T, V], row-major. */
  readonly logits: Float32Array
  /** Each captured buffer by its name, [T, ...]. */
  readonly captured: Readonly<Record<string, Float32Array | Int32Array>>
}

export interface ScoreResult {
  /** The continuation's tokens. */
  readonly tokenIds: number[]
  /** Natural logarithm of each token's probability after all before it. */
  readonly logprobs: number[]
  /** Whether each token was the likeliest; of equals, the lowest id is. */
  readonly greedy: boolean[]
  /** Sum of the logprobs. */
  readonly logprob: number
}
