/**
 * Chooses the next token of one sequence. The order is that of Hugging Face's logits processors:
 * penalties, the caller's hook, the tokens that a grammar allows. Then come temperature, topK,
 * topP, minP, typicalP, and one draw.
 */

import { type AllowedTokens, withAllowed } from './allowed.js'
import { Candidates } from './candidates.js'
import { HookedLogits, type LogitsHook } from './logits-hook.js'
import { argmax, kthLargest, type TokenLogprobs, tokenLogprobs } from './logprobs.js'
import { Penalties, type PenaltyOptions } from './penalties.js'
import { uniform } from './rng.js'
import { checkTop, type KnownLogits, largest, type TopLogits, topLogprobs } from './top-logits.js'

export {
  argmax,
  logSumExp,
  type TokenLogprob,
  type TokenLogprobs,
  tokenLogprobs,
} from './logprobs.js'
export { type ScoredLogits, scoredLogprobs, type TopLogits } from './top-logits.js'

/** Resolved options of generation: options/generate.ts has their ranges. */
export interface SamplingOptions extends PenaltyOptions {
  readonly doSample: boolean
  readonly temperature: number
  readonly topK: number
  readonly topP: number
  readonly minP: number
  readonly typicalP: number
  readonly seed: number
  readonly logprobs: number | undefined
  readonly logits: LogitsHook | undefined
}

export interface SamplerSequence {
  readonly promptIds: ArrayLike<number>
  /** Tokens that end the sequence: stopTokenIds, and the end-of-sequence token unless ignoreEos. */
  readonly endTokenIds: Iterable<number>
  /** Index among the sequences that share a seed; each draws numbers of its own. */
  readonly stream: number
  /** The tokens that may follow, if a grammar rules them. */
  readonly allowed?: AllowedTokens | undefined
}

export interface Sample {
  readonly tokenId: number
  /**
   * Present if the option `logprobs` was given. Of the model's own distribution, before every
   * sampling option.
   */
  readonly logprobs?: TokenLogprobs
}

/** The tokens left to draw from, in ascending order, and their probabilities, which sum to 1. */
export interface Distribution {
  readonly tokenIds: Int32Array
  readonly probabilities: Float64Array
}

/**
 * One for all samplers of a thread: a step uses it without yielding, and it is 36 bytes per token
 * of the vocabulary.
 */
const candidates = new Candidates()

export class Sampler {
  readonly #options: SamplingOptions
  readonly #penalties: Penalties
  readonly #hook: HookedLogits | undefined
  readonly #stream: number
  readonly #allowed: AllowedTokens | undefined
  #step = 0

  constructor(options: SamplingOptions, sequence: SamplerSequence) {
    this.#options = options
    this.#penalties = new Penalties(options, sequence.promptIds, sequence.endTokenIds)
    this.#hook = options.logits && new HookedLogits(options.logits, sequence.promptIds)
    this.#stream = sequence.stream
    this.#allowed = sequence.allowed
  }

  /**
   * True if `sample` may be given the `count` largest logits of rows that `suffices` accepts. Other
   * options need the whole distribution. Or a penalty, bias or hook may raise any logit, or a
   * grammar may ban any token.
   */
  takesTop(count: number): boolean {
    const { doSample, topK, logprobs } = this.#options
    return (
      this.#hook === undefined &&
      this.#allowed === undefined &&
      this.#penalties.onlyLower &&
      (logprobs ?? 0) <= count &&
      (!doSample || (topK >= 1 && topK < count))
    )
  }

  /**
   * True if `top` leads to the same token as the whole row. The tokens that are needed must stay
   * above all unknown logits, which are at most the smallest known one.
   */
  suffices(top: TopLogits): boolean {
    const count = top.ids.length
    if (count === top.vocabSize) return true
    const needed = this.#options.doSample ? this.#options.topK : 1
    const unknown = top.logits[count - 1]!
    if (!this.#penalties.active) return !this.#options.doSample || top.logits[needed - 1]! > unknown
    const known = largest(top, count)
    this.#penalties.apply(known)
    const enough = kthLargest(known.logits, needed) > unknown
    this.#penalties.restore(known)
    return enough
  }

  /**
   * Chooses the next token from the logits [V] of the last one, or from the largest if they
   * suffice. Counts it as generated. The row holds the same values afterwards. Throws ERR_DEVICE if
   * the logits are no distribution, a RangeError if the options ban every token, and the hook's own
   * exceptions. The sampler is then unchanged.
   */
  sample(logits: Float32Array | TopLogits): Sample {
    const known = this.#known(logits)
    const tokenId = this.#changed(known, changed => this.#choose(changed))
    const { logprobs } = this.#options
    this.#penalties.append(tokenId)
    this.#hook?.append(tokenId)
    this.#step++
    if (logprobs === undefined) return { tokenId }
    const ofToken = logits instanceof Float32Array ? tokenLogprobs : topLogprobs
    return { tokenId, logprobs: ofToken(logits as Float32Array & TopLogits, tokenId, logprobs) }
  }

  /** The distribution that `sample` would draw from. */
  distribution(logits: Float32Array | TopLogits): Distribution {
    const known = this.#known(logits)
    return this.#changed(known, changed => {
      if (!this.#options.doSample) {
        return { tokenIds: Int32Array.of(likeliest(changed)), probabilities: Float64Array.of(1) }
      }
      this.#narrow(changed)
      const total = candidates.totalWeight()
      return {
        tokenIds: candidates.ids.slice(0, candidates.count),
        probabilities: candidates.weights.slice(0, candidates.count).map(weight => weight / total),
      }
    })
  }

  /** As much of `top` as the options need. */
  #known(logits: Float32Array | TopLogits): KnownLogits {
    if (logits instanceof Float32Array) return { logits }
    checkTop(logits)
    const { doSample, topK } = this.#options
    const count = logits.ids.length
    if (this.#penalties.active || (doSample && (topK === 0 || topK >= count)))
      return largest(logits, count)
    let needed = doSample ? topK : 1
    while (doSample && needed < count && logits.logits[needed] === logits.logits[topK - 1]) needed++
    return largest(logits, needed)
  }

  #choose(known: KnownLogits): number {
    if (!this.#options.doSample) return likeliest(known)
    this.#narrow(known)
    return candidates.draw(uniform(this.#options.seed, this.#stream, this.#step))
  }

  #narrow(known: KnownLogits): void {
    const { temperature, topK, topP, minP, typicalP } = this.#options
    candidates.fill(known, topK, temperature)
    if (topP < 1) candidates.keepTopP(topP)
    if (minP > 0) candidates.keepMinP(minP)
    if (typicalP < 1) candidates.keepTypicalP(typicalP)
  }

  /** Calls `body` with the logits that penalties, the hook and the grammar have changed. */
  #changed<T>(known: KnownLogits, body: (changed: KnownLogits) => T): T {
    if (!this.#penalties.active && !this.#hook) return this.#withAllowed(known, body)
    // Checks the raw logits: whatever is wrong later is the doing of the options.
    argmax(known.logits)
    this.#penalties.apply(known, this.#allowed?.isComplete)
    try {
      checkNotAllBanned(known, BANNING)
      const hooked = this.#hook ? { logits: this.#hook.apply(known.logits) } : known
      return this.#withAllowed(hooked, allowed => {
        checkNotAllBanned(allowed, `${BANNING}, logits`, ' that the grammar allows')
        return body(allowed)
      })
    } finally {
      this.#penalties.restore(known)
    }
  }

  #withAllowed<T>(changed: KnownLogits, body: (allowed: KnownLogits) => T): T {
    return this.#allowed ? withAllowed(changed.logits, this.#allowed, body) : body(changed)
  }
}

const BANNING = 'logitBias, noRepeatNgramSize, minNewTokens'

function checkNotAllBanned({ logits }: KnownLogits, options: string, which = ''): void {
  if (logits.some(x => x !== -Infinity)) return
  throw new RangeError(
    `${options}: these options ban every token${which}; nothing is left to sample`,
  )
}

function likeliest({ logits, ids }: KnownLogits): number {
  const place = argmax(logits)
  return ids === undefined ? place : ids[place]!
}
