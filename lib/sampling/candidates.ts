/**
 * The tokens that a step may draw from, narrowed by topK, topP, minP and typicalP as Hugging Face's
 * logits warpers define them. The vocabulary is not sorted. Tokens stay in ascending order of id.
 */

import { findCrossing } from './crossing.js'
import { argmax, kthLargest } from './logprobs.js'
import type { KnownLogits } from './top-logits.js'

/**
 * Up to this k a heap finds the k-th largest logit, above it a quickselect. Measured on a 2-core
 * AMD EPYC with Node 20: a whole step over 65536 normal logits, heap and quickselect in ms. k 50:
 * 0.16, 1.44; k 2048: 0.76, 1.48; k 4096: 1.27, 1.54; k 8192: 2.09, 1.73.
 */
const HEAP_LIMIT = 2048

export class Candidates {
  /** Number of candidates; the arrays below are longer. */
  count = 0
  /** Token ids, ascending. */
  ids = new Int32Array(0)
  /**
   * (logit - largest logit) / temperature; at most 0, so that no logit or temperature overflows its
   * exponential.
   */
  #scores = new Float64Array(0)
  /** exp(score): probabilities up to a common factor. The likeliest token has 1. */
  weights = new Float64Array(0)
  // findCrossing reorders these.
  #keys = new Float64Array(0)
  #masses = new Float64Array(0)

  /**
   * Starts over with the tokens whose logit is at least the topK-th largest and above -Infinity.
   * Ties with it stay, as in TopKLogitsWarper; topK 0 means all. Throws ERR_DEVICE on NaN or
   * +Infinity. temperature > 0.
   */
  fill({ logits, ids }: KnownLogits, topK: number, temperature: number): void {
    this.#reserve(logits.length)
    const largest = logits[argmax(logits)]!
    const threshold = this.#topKThreshold(logits, topK)
    let count = 0
    for (let i = 0; i < logits.length; i++) {
      const x = logits[i]!
      if (x >= threshold && x !== -Infinity) {
        const score = (x - largest) / temperature
        this.ids[count] = ids === undefined ? i : ids[i]!
        this.#scores[count] = score
        this.weights[count++] = Math.exp(score)
      }
    }
    this.count = count
  }

  #topKThreshold(logits: Float32Array, topK: number): number {
    if (topK === 0 || topK >= logits.length) return -Infinity
    if (topK <= HEAP_LIMIT) return kthLargest(logits, topK)
    for (let id = 0; id < logits.length; id++) this.#keys[id] = -logits[id]!
    this.#masses.fill(1, 0, logits.length)
    return -findCrossing(this.#keys, this.#masses, logits.length, topK).key
  }

  /**
   * Keeps the smallest set of likeliest tokens with a probability of at least topP together. It
   * includes the token that crosses topP, and one token at least. Of tied tokens that are not all
   * needed, the lower ids stay. Source: TopPLogitsWarper.
   */
  keepTopP(topP: number): void {
    const total = this.totalWeight()
    // Tokens lighter than this cannot reach the set: all that are as light or lighter have less
    // than 1 - topP together. On a model's logits that leaves few to select from. Half of the
    // bound, so that rounding cannot matter.
    const floor = (0.5 * (1 - topP) * total) / this.count
    let heavy = 0
    for (let i = 0; i < this.count; i++) {
      if (this.weights[i]! >= floor) {
        this.#keys[heavy] = -this.#scores[i]!
        this.#masses[heavy++] = this.weights[i]!
      }
    }
    const target = Math.max(topP * total, Number.MIN_VALUE)
    const { key, massBefore } = findCrossing(this.#keys, this.#masses, heavy, target)
    let mass = massBefore
    this.#keep(i => {
      if (this.#scores[i]! !== -key) return this.#scores[i]! > -key
      if (mass >= target) return false
      mass += this.weights[i]!
      return true
    })
  }

  /**
   * Keeps the tokens with a probability of at least minP times the largest. Source:
   * MinPLogitsWarper.
   */
  keepMinP(minP: number): void {
    this.#keep(i => this.weights[i]! >= minP)
  }

  /**
   * Keeps the tokens whose information -log p is nearest to the entropy, until their probability
   * reaches typicalP; tokens as near as the last one stay. Source: TypicalLogitsWarper.
   */
  keepTypicalP(typicalP: number): void {
    const total = this.totalWeight()
    let mean = 0
    for (let i = 0; i < this.count; i++) {
      // 0 * -Infinity counts as 0.
      if (this.weights[i]! > 0) mean += this.weights[i]! * this.#scores[i]!
    }
    mean /= total
    // -log p - entropy = (log total - score) - (log total - mean score): the normalizers cancel.
    const distance = (i: number) => Math.abs(mean - this.#scores[i]!)
    for (let i = 0; i < this.count; i++) {
      this.#keys[i] = distance(i)
      this.#masses[i] = this.weights[i]!
    }
    const { key } = findCrossing(this.#keys, this.#masses, this.count, typicalP * total)
    this.#keep(i => distance(i) <= key)
  }

  /** The candidate at `u` in [0, 1) of the cumulative distribution over ascending ids. */
  draw(u: number): number {
    const target = u * this.totalWeight()
    let mass = 0
    let last = this.ids[0]!
    for (let i = 0; i < this.count; i++) {
      if (this.weights[i]! === 0) continue
      mass += this.weights[i]!
      last = this.ids[i]!
      if (mass > target) break
    }
    return last
  }

  totalWeight(): number {
    let total = 0
    for (let i = 0; i < this.count; i++) total += this.weights[i]!
    return total
  }

  #keep(wanted: (i: number) => boolean): void {
    let count = 0
    for (let i = 0; i < this.count; i++) {
      if (!wanted(i)) continue
      this.ids[count] = this.ids[i]!
      this.#scores[count] = this.#scores[i]!
      this.weights[count++] = this.weights[i]!
    }
    this.count = count
  }

  #reserve(count: number): void {
    if (this.ids.length >= count) return
    this.ids = new Int32Array(count)
    this.#scores = new Float64Array(count)
    this.weights = new Float64Array(count)
    this.#keys = new Float64Array(count)
    this.#masses = new Float64Array(count)
  }
}
