/** Sums over a router's logits: probabilities, their entropy, and moments. */
import type { ExpertKind } from '../program/moe-ops.js'
import { mergeMoments, momentsOf, NO_MOMENTS } from './moments.js'
import type { Moments, RouterScores, RouterStatistics } from './types.js'

/** Of one layer. */
export class RouterSums {
  readonly #probabilities: Float64Array
  /** 1 at each expert that a masked router leaves out. */
  readonly #isFree: Uint8Array
  /** [E] of one token. */
  readonly #powers: Float64Array
  #entropy = 0
  #scores = NO_MOMENTS
  #ownScores: Moments | undefined

  constructor(kinds: readonly ExpertKind[]) {
    this.#probabilities = new Float64Array(kinds.length)
    this.#powers = new Float64Array(kinds.length)
    this.#isFree = Uint8Array.from(kinds, kind => Number(kind !== 'ffn'))
  }

  add({ logits, ownLogits, normStd = 0, masked = false }: RouterScores): void {
    const experts = this.#powers.length
    for (let at = 0; at < logits.length; at += experts) {
      const scale = normStd === 0 ? 1 : logitScale(logits, at, experts, normStd)
      this.#addToken(logits, at, scale, masked)
    }
    this.#scores = mergeMoments(this.#scores, momentsOf(logits))
    if (ownLogits)
      this.#ownScores = mergeMoments(this.#ownScores ?? NO_MOMENTS, momentsOf(ownLogits))
  }

  result(): RouterStatistics {
    return {
      probabilities: [...this.#probabilities],
      entropy: this.#entropy,
      scores: this.#scores,
      ...(this.#ownScores && { ownScores: this.#ownScores }),
    }
  }

  /** H = log2(sum) - sum_e p_e z_e / ln 2, with z less its largest. */
  #addToken(logits: Float32Array, at: number, scale: number, masked: boolean): void {
    const powers = this.#powers
    const probabilities = this.#probabilities
    const isFree = this.#isFree
    const experts = powers.length
    let highest = Number.NEGATIVE_INFINITY
    for (let e = 0; e < experts; e++) {
      if (masked && isFree[e] === 1) continue
      if (logits[at + e]! > highest) highest = logits[at + e]!
    }
    let sum = 0
    let weighted = 0
    for (let e = 0; e < experts; e++) {
      const z = (logits[at + e]! - highest) * scale
      const power = masked && isFree[e] === 1 ? 0 : Math.exp(z)
      powers[e] = power
      sum += power
      if (power > 0) weighted += power * z
    }
    const inverse = 1 / sum
    for (let e = 0; e < experts; e++) probabilities[e]! += powers[e]! * inverse
    this.#entropy += (Math.log(sum) - weighted * inverse) / Math.LN2
  }
}

/** As native/ops/route_top_k.h has it: the standard deviation is divided by E - 1. */
function logitScale(logits: Float32Array, at: number, experts: number, normStd: number): number {
  if (experts < 2) return 1
  let mean = 0
  for (let e = 0; e < experts; e++) mean += logits[at + e]!
  mean /= experts
  let squares = 0
  for (let e = 0; e < experts; e++) {
    const deviation = logits[at + e]! - mean
    squares += deviation * deviation
  }
  return squares === 0 ? 1 : normStd / Math.sqrt(squares / (experts - 1))
}
