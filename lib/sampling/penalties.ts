/**
 * The options that change logits before sampling, in the order in which they apply: logitBias,
 * repetitionPenalty, frequencyPenalty and presencePenalty, noRepeatNgramSize, minNewTokens.
 *
 * Each step touches the tokens that a rule names and no others. It writes to the caller's row and
 * keeps the old values. So `restore` costs as little, and no row is copied.
 */

import { NgramIndex } from './ngrams.js'
import { type KnownLogits, placeOf } from './top-logits.js'

/** Resolved options of generation: options/generate.ts has their ranges. */
export interface PenaltyOptions {
  readonly logitBias: ReadonlyMap<number, number>
  readonly repetitionPenalty: number
  readonly frequencyPenalty: number
  readonly presencePenalty: number
  readonly noRepeatNgramSize: number
  readonly minNewTokens: number
}

const MAX_FLOAT32 = 3.4028234663852886e38

const ban = () => -Infinity

export class Penalties {
  readonly #options: PenaltyOptions
  readonly #endTokenIds: readonly number[]
  readonly #ngrams: NgramIndex | undefined
  readonly #countsTokens: boolean
  // Distinct tokens in order of appearance, and how often each was generated: 0 for tokens of the
  // prompt alone.
  readonly #seenIds: number[] = []
  readonly #generatedCounts: number[] = []
  readonly #placeOf = new Map<number, number>()
  #generated = 0
  // Values that the last `apply` overwrote, in order.
  readonly #changedPlaces: number[] = []
  readonly #changedLogits: number[] = []

  /** @param endTokenIds the tokens that end the sequence, which minNewTokens holds back */
  constructor(
    options: PenaltyOptions,
    promptIds: ArrayLike<number>,
    endTokenIds: Iterable<number>,
  ) {
    this.#options = options
    this.#endTokenIds = [...endTokenIds]
    if (options.noRepeatNgramSize > 0) this.#ngrams = new NgramIndex(options.noRepeatNgramSize)
    this.#countsTokens =
      options.repetitionPenalty !== 1 ||
      options.frequencyPenalty !== 0 ||
      options.presencePenalty !== 0
    for (let i = 0; i < promptIds.length; i++) {
      const id = promptIds[i]!
      // Frequency and presence count generated tokens only.
      if (options.repetitionPenalty !== 1) this.#place(id)
      this.#ngrams?.append(id)
    }
  }

  /** True if `apply` can change anything at this step. */
  get active(): boolean {
    const { logitBias, minNewTokens } = this.#options
    return (
      this.#countsTokens ||
      this.#ngrams !== undefined ||
      logitBias.size > 0 ||
      (this.#generated < minNewTokens && this.#endTokenIds.length > 0)
    )
  }

  /** True if `apply` never makes a logit larger. */
  get onlyLower(): boolean {
    const { logitBias, repetitionPenalty, frequencyPenalty, presencePenalty } = this.#options
    return (
      repetitionPenalty >= 1 &&
      frequencyPenalty >= 0 &&
      presencePenalty >= 0 &&
      [...logitBias.values()].every(bias => bias <= 0)
    )
  }

  /** Records a generated token. */
  append(tokenId: number): void {
    this.#generated++
    if (this.#countsTokens) this.#generatedCounts[this.#place(tokenId)]!++
    this.#ngrams?.append(tokenId)
  }

  /**
   * Changes the logits that are known, in place. `restore` must follow, with the same.
   * @param mustEnd true: nothing but the end may follow, whatever minNewTokens is
   */
  apply(known: KnownLogits, mustEnd = false): void {
    for (const [id, bias] of this.#options.logitBias) this.#change(known, id, x => x + bias)
    if (this.#countsTokens) this.#penalizeSeen(known)
    if (this.#ngrams !== undefined) {
      for (const id of this.#ngrams.continuations()) this.#change(known, id, ban)
    }
    if (this.#generated < this.#options.minNewTokens && !mustEnd) {
      for (const id of this.#endTokenIds) this.#change(known, id, ban)
    }
  }

  /** Puts back what `apply` changed. */
  restore({ logits }: KnownLogits): void {
    // Backwards: a token that two rules changed ends with its first value.
    for (let i = this.#changedPlaces.length - 1; i >= 0; i--)
      logits[this.#changedPlaces[i]!] = this.#changedLogits[i]!
    this.#changedPlaces.length = 0
    this.#changedLogits.length = 0
  }

  #penalizeSeen(known: KnownLogits): void {
    const { repetitionPenalty, frequencyPenalty, presencePenalty } = this.#options
    for (let place = 0; place < this.#seenIds.length; place++) {
      const count = this.#generatedCounts[place]!
      this.#change(known, this.#seenIds[place]!, logit => {
        let x = logit
        // Source: RepetitionPenaltyLogitsProcessor.
        if (repetitionPenalty !== 1) x = x < 0 ? x * repetitionPenalty : x / repetitionPenalty
        // Source: OpenAI's API reference.
        if (count > 0) x -= count * frequencyPenalty + presencePenalty
        return x
      })
    }
  }

  #change({ logits, ids }: KnownLogits, id: number, penalized: (logit: number) => number): void {
    const place = ids === undefined ? id : placeOf(ids, id)
    if (place === -1) return
    this.#changedPlaces.push(place)
    this.#changedLogits.push(logits[place]!)
    // A penalty near 0 must not make an infinity, which would read as a failure of the device.
    logits[place] = Math.min(penalized(logits[place]!), MAX_FLOAT32)
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
