/** One sequence of tokens on its way through the engine. */

import type { ScoredLogits, TopLogits } from '../sampling/top-logits.js'
import type { Page } from './kv-cache.js'

/**
 * The owner of a sequence. It takes the results of the steps and decides how the sequence goes on.
 */
export interface SequenceConsumer {
  /**
   * Resolves when `next` can be called; undefined: it can be now. Other sequences of the step go
   * first, and later steps do not wait for it. If it rejects, this sequence fails.
   */
  readonly pending?: Promise<void> | undefined
  /**
   * The logits [V] after the token at `position`: called for every position from `logitsFrom` on,
   * in order. At the last position it returns the token that follows, or undefined, which ends the
   * sequence; elsewhere nothing is expected. The row is valid during the call only. An exception
   * ends this sequence and no other.
   */
  next(position: number, logits: Float32Array | TopLogits | ScoredLogits): number | undefined
  /**
   * True if these largest logits of the last position are enough for `next`. Called if the request
   * says `top`. After the first false, the last token is computed again for its whole row, and
   * later rows are whole.
   */
  suffices?(top: TopLogits): boolean
  /**
   * Guesses of the next tokens, at most `most`, at least one. The next step computes them along
   * with the last token. Each that `next` returns saves a step; from the first other one on they
   * are dropped. The sequence must not grow beyond maxTokens with them. It must not throw.
   */
  draft?(most: number): readonly number[]
  /**
   * Captured rows of the next tokens, from `position` on, for one name after the other. They come
   * before `next` for these tokens, and are valid until then. A token's rows come once.
   */
  captured?(name: string, rows: Int32Array | Float32Array, position: number): void
}

export interface SequenceRequest {
  /** The prompt, at least one token. */
  readonly tokens: readonly number[]
  /** First position whose logits are wanted, at most the prompt's last. */
  readonly logitsFrom: number
  /**
   * Largest logits instead of whole rows, while `consumer.suffices` returns true. Default: whole
   * rows.
   */
  readonly top?: 'logits' | 'logits and logSumExp'
  /** Positions before this one get ScoredLogits. Default 0. */
  readonly scoredTo?: number
  /** True if the consumer makes a token of each last position's logits, also at the end. */
  readonly generates?: boolean
  /** True: its pages outlive it, in the report. Their owner gives them back: Engine.release. */
  readonly keepsPages?: boolean
  /** Buffers wanted of every token. */
  readonly capture: readonly string[]
  /** False: not of tokens at the beginning that an earlier sequence had computed. Default true. */
  readonly capturesCached?: boolean
  readonly consumer: SequenceConsumer
}

export interface SequenceReport {
  /** Tokens of the prompt that an earlier sequence had computed. */
  readonly cachedTokens: number
  /**
   * Milliseconds of performance.now(); `startedAt` is that of the first step, or undefined if there
   * was none.
   */
  readonly submittedAt: number
  readonly startedAt: number | undefined
  /** Tokens that steps have computed as guesses, and those of them that came. */
  readonly draftedTokens: number
  readonly acceptedTokens: number
  /** True if `cancel` ended it. */
  readonly cancelled: boolean
  /** Of all its tokens, in order, if it keeps them. */
  readonly pages?: readonly Page[]
}

/** The owner's view of a sequence that the engine computes. */
export interface Submission {
  /**
   * Rejects if a step or the consumer failed, or the engine was closed. A cancelled sequence
   * resolves.
   */
  readonly done: Promise<SequenceReport>
  /** Ends it at once. */
  cancel(): void
}

export class Sequence {
  readonly request: SequenceRequest
  readonly tokens: number[]
  /**
   * The variant of each token's keys: the prompt has that of its full length, a generated token
   * that of the length that it made. They stay the same when the sequence is computed again.
   */
  readonly keyVariants: number[]
  /** Pages of the KV cache, in order; none while it waits. */
  pages: Page[] = []
  /** Tokens whose keys and values are in the pages. */
  computed = 0
  /** First position whose logits the consumer has not had. */
  nextLogits: number
  /** Tokens whose captured rows the consumer has had. */
  recorded = 0
  draftedTokens = 0
  acceptedTokens = 0
  /** Set by the first admission. */
  cachedTokens: number | undefined
  readonly submittedAt = performance.now()
  startedAt: number | undefined
  ended = false
  /** The part of the logits that it takes; undefined: whole rows. */
  top: SequenceRequest['top']
  readonly #keyVariantOf: (length: number) => number

  constructor(request: SequenceRequest, keyVariantOf: (length: number) => number) {
    this.request = request
    this.tokens = [...request.tokens]
    this.nextLogits = request.logitsFrom
    this.top = request.top
    this.#keyVariantOf = keyVariantOf
    this.keyVariants = new Array(this.tokens.length).fill(keyVariantOf(this.tokens.length))
  }

  append(token: number): void {
    this.tokens.push(token)
    this.keyVariants.push(this.#keyVariantOf(this.tokens.length))
  }

  get scoredTo(): number {
    return this.request.scoredTo ?? 0
  }

  /** That of a token of the text, or of one that may be appended. */
  keyVariantAt(position: number): number {
    return this.keyVariants[position] ?? this.#keyVariantOf(position + 1)
  }

  /** Tokens still to compute. */
  get remaining(): number {
    return this.tokens.length - this.computed
  }

  /**
   * Tokens from the start whose keys may come from somewhere else, because nothing but their keys
   * is wanted. Below the length: the logits of the last token always are.
   */
  get reusable(): number {
    const { capture, capturesCached = true } = this.request
    const wantsRows = capture.length > 0 && (capturesCached || this.recorded > 0)
    return wantsRows ? Math.min(this.nextLogits, this.recorded) : this.nextLogits
  }

  report(cancelled: boolean): SequenceReport {
    const { cachedTokens = 0, submittedAt, startedAt, draftedTokens, acceptedTokens } = this
    const keepsPages = this.request.keepsPages && !cancelled
    return {
      cachedTokens,
      submittedAt,
      startedAt,
      draftedTokens,
      acceptedTokens,
      cancelled,
      ...(keepsPages && { pages: this.pages.splice(0) }),
    }
  }
}
