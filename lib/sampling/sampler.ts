/**
 * Chooses the next token of one sequence: penalties, temperature, topK, topP, minP, typicalP, then one draw, in the
 * order of Hugging Face's logits processors.
 */

import type { ResolvedOptions } from '../options.js'
import { Candidates } from './candidates.js'
import { argmax, type TokenLogprobs, tokenLogprobs } from './logprobs.js'
import { Penalties, type PenaltyOptions } from './penalties.js'
import { uniform } from './rng.js'

export {
  argmax,
  logSoftmaxAt,
  logSumExp,
  type TokenLogprob,
  type TokenLogprobs,
  tokenLogprobs,
} from './logprobs.js'

export type SamplingOptions = PenaltyOptions &
  Pick<
    ResolvedOptions,
    'doSample' | 'temperature' | 'topK' | 'topP' | 'minP' | 'typicalP' | 'seed' | 'logprobs'
  >

export interface SamplerSequence {
  readonly promptIds: ArrayLike<number>
  /** Tokens that end the sequence: stopTokenIds, and the end-of-sequence token unless ignoreEos. */
  readonly endTokenIds: Iterable<number>
  /** Index among the sequences that share a seed; each draws numbers of its own. */
  readonly stream: number
}

export interface Sample {
  readonly tokenId: number
  /** Present if the option `logprobs` was given. Of the model's own distribution, before every sampling option. */
  readonly logprobs?: TokenLogprobs
}

/** What a step draws from: the tokens left, in ascending order, and their probabilities, which sum to 1. */
export interface Distribution {
  readonly tokenIds: Int32Array
  readonly probabilities: Float64Array
}

/** One for all samplers of a thread: a step uses it without yielding, and it is 36 bytes per token of the vocabulary. */
const candidates = new Candidates()

export class Sampler {
  readonly #options: SamplingOptions
  readonly #penalties: Penalties
  readonly #stream: number
  #step = 0

  constructor(options: SamplingOptions, sequence: SamplerSequence) {
    this.#options = options
    this.#penalties = new Penalties(options, sequence.promptIds, sequence.endTokenIds)
    this.#stream = sequence.stream
  }

  /**
   * Chooses the next token from the logits [V] of the last one, and counts it as generated. The row holds the same
   * values afterwards. Throws ERR_DEVICE if the logits are no distribution, a RangeError if the options ban every
   * token; the sampler is then unchanged.
   */
  sample(logits: Float32Array): Sample {
    const tokenId = this.#penalized(logits, () => this.#choose(logits))
    const { logprobs } = this.#options
    this.#penalties.append(tokenId)
    this.#step++
    return logprobs === undefined
      ? { tokenId }
      : { tokenId, logprobs: tokenLogprobs(logits, tokenId, logprobs) }
  }

  /** What `sample` would draw from. */
  distribution(logits: Float32Array): Distribution {
    return this.#penalized(logits, () => {
      if (!this.#options.doSample) {
        return { tokenIds: Int32Array.of(argmax(logits)), probabilities: Float64Array.of(1) }
      }
      this.#narrow(logits)
      const total = candidates.totalWeight()
      return {
        tokenIds: candidates.ids.slice(0, candidates.count),
        probabilities: candidates.weights.slice(0, candidates.count).map(weight => weight / total),
      }
    })
  }

  #choose(logits: Float32Array): number {
    if (!this.#options.doSample) return argmax(logits)
    this.#narrow(logits)
    return candidates.draw(uniform(this.#options.seed, this.#stream, this.#step))
  }

  #narrow(logits: Float32Array): void {
    const { temperature, topK, topP, minP, typicalP } = this.#options
    candidates.fill(logits, topK, temperature)
    if (topP < 1) candidates.keepTopP(topP)
    if (minP > 0) candidates.keepMinP(minP)
    if (typicalP < 1) candidates.keepTypicalP(typicalP)
  }

  #penalized<T>(logits: Float32Array, body: () => T): T {
    if (!this.#penalties.active) return body()
    // Checks the raw logits: whatever is wrong after the penalties is the penalties' doing.
    argmax(logits)
    this.#penalties.apply(logits)
    try {
      if (logits.every(x => x === -Infinity)) {
        throw new RangeError(
          'logitBias, noRepeatNgramSize, minNewTokens: expected to leave a token to choose, got every token banned',
        )
      }
      return body()
    } finally {
      this.#penalties.restore(logits)
    }
  }
}
