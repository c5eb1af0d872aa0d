/**
 * The options that change logits before sampling, in the order in which they apply: logitBias, repetitionPenalty,
 * frequencyPenalty and presencePenalty, noRepeatNgramSize, minNewTokens.
 *
 * Each step touches the tokens that a rule names and no others. It writes to the caller's row and keeps what it
 * overwrote, so that `restore` costs as little and nobody copies a vocabulary.
 */

import type { ResolvedOptions } from '../options.js'
import { NgramIndex } from './ngrams.js'

export type PenaltyOptions = Pick<
  ResolvedOptions,
  | 'logitBias'
  | 'repetitionPenalty'
  | 'frequencyPenalty'
  | 'presencePenalty'
  | 'noRepeatNgramSize'
  | 'minNewTokens'
>

const MAX_FLOAT32 = 3.4028234663852886e38

export class Penalties {
  readonly #options: PenaltyOptions
  readonly #endTokenIds: readonly number[]
  readonly #ngrams: NgramIndex | undefined
  readonly #countsTokens: boolean
  // Distinct tokens in order of appearance, and how often each was generated: 0 for tokens of the prompt alone.
  readonly #seenIds: number[] = []
  readonly #generatedCounts: number[] = []
  readonly #placeOf = new Map<number, number>()
  #generated = 0
  // What the last `apply` overwrote, in order.
  readonly #changedIds: number[] = []
  readonly #changedLogits: number[] = []

  /** @param endTokenIds the tokens that end the sequence, which minNewTokens holds back */
  constructor(options: PenaltyOptions, promptIds: ArrayLike<number>, endTokenIds: Iterable<number>) {
    this.#options = options
    this.#endTokenIds = [...endTokenIds]
    if (options.noRepeatNgramSize > 0) this.#ngrams = new NgramIndex(options.noRepeatNgramSize)
    this.#countsTokens =
      options.repetitionPenalty !== 1 || options.frequencyPenalty !== 0 || options.presencePenalty !== 0
    for (let i = 0; i < promptIds.length; i++) {
      const id = promptIds[i]!
      // Frequency and presence count generated tokens only.
      if (options.repetitionPenalty !== 1) this.#place(id)
      this.#ngrams?.append(id)
    }
  }

  /** Whether `apply` can change anything at this step. */
  get active(): boolean {
    const { logitBias, minNewTokens } = this.#options
    return (
      this.#countsTokens ||
      this.#ngrams !== undefined ||
      logitBias.size > 0 ||
      (this.#generated < minNewTokens && this.#endTokenIds.length > 0)
    )
  }

  /** Records a generated token. */
  append(tokenId: number): void {
    this.#generated++
    if (this.#countsTokens) this.#generatedCounts[this.#place(tokenId)]!++
    this.#ngrams?.append(tokenId)
  }

  /** Changes the logits in place. `restore` must follow, with the same row. */
  apply(logits: Float32Array): void {
    for (const [id, bias] of this.#options.logitBias) this.#set(logits, id, logits[id]! + bias)
    if (this.#countsTokens) this.#penalizeSeen(logits)
    if (this.#ngrams !== undefined) {
      for (const id of this.#ngrams.continuations()) this.#set(logits, id, -Infinity)
    }
    if (this.#generated < this.#options.minNewTokens) {
      for (const id of this.#endTokenIds) this.#set(logits, id, -Infinity)
    }
  }

  /** Puts back what `apply` changed. */
  restore(logits: Float32Array): void {
    // Backwards: a token that two rules changed ends with its first value.
    for (let i = this.#changedIds.length - 1; i >= 0; i--)
      logits[this.#changedIds[i]!] = this.#changedLogits[i]!
    this.#changedIds.length = 0
    this.#changedLogits.length = 0
  }

  #penalizeSeen(logits: Float32Array): void {
    const { repetitionPenalty, frequencyPenalty, presencePenalty } = this.#options
    for (let place = 0; place < this.#seenIds.length; place++) {
      const id = this.#seenIds[place]!
      let x = logits[id]!
      // Source: RepetitionPenaltyLogitsProcessor.
      if (repetitionPenalty !== 1) x = x < 0 ? x * repetitionPenalty : x / repetitionPenalty
      // Source: OpenAI's API reference.
      const count = this.#generatedCounts[place]!
      if (count > 0) x -= count * frequencyPenalty + presencePenalty
      this.#set(logits, id, x)
    }
  }

  #set(logits: Float32Array, id: number, x: number): void {
    this.#changedIds.push(id)
    this.#changedLogits.push(logits[id]!)
    // A penalty near 0 must not make an infinity, which would read as a failure of the device.
    logits[id] = Math.min(x, MAX_FLOAT32)
  }

  #place(id: number): number {
    let place = this.#placeOf.get(id)
    if (place === undefined) {
      place = this.#seenIds.push(id) - 1
      this.#generatedCounts.push(0)
      this.#placeOf.set(id, place)
    }
    return place
  }
}
