/** Sums over a router's logits: probabilities, their entropy, and moments. */
import type { ExpertKind } from '../program/expert-kinds.js'
import { mergeMoments, momentsOf, NO_MOMENTS } from './moments.js'
import type { Moments, RouterScores, RouterStatistics } from './types.js'

/** Of one layer. */
export class RouterSums {
  readonly #probabilities: Float64Array
  /** [E] of one token. */
  readonly #powers: Float64Array
  /** 1 at each expert that the softmax leaves out: of a masked router, and of others. */
  readonly #leftOut: Readonly<Record<'masked' | 'unmasked', Uint8Array>>
  #entropy = 0
  #scores = NO_MOMENTS
  #ownScores: Moments | undefined

  constructor(kinds: readonly ExpertKind[]) {
    this.#probabilities = new Float64Array(kinds.length)
    this.#powers = new Float64Array(kinds.length)
    this.#leftOut = {
      masked: Uint8Array.from(kinds, kind => Number(kind !== 'ffn')),
      unmasked: new Uint8Array(kinds.length),
    }
  }

  add(rows: RouterScores): void {
    const { logits, ownLogits, normStd = 0, masked = false } = rows
    const scores = momentsOf(logits)
    const ownScores = ownLogits && momentsOf(ownLogits)
    if (!areFinite(scores) || (ownScores && !areFinite(ownScores))) {
      this.add(finiteRows(rows, this.#probabilities.length))
      return
    }
    this.#addRows(logits, normStd, this.#leftOut[masked ? 'masked' : 'unmasked'])
    this.#scores = mergeMoments(this.#scores, scores)
    if (ownScores) this.#ownScores = mergeMoments(this.#ownScores ?? NO_MOMENTS, ownScores)
  }

  result(): RouterStatistics {
    return {
      probabilities: [...this.#probabilities],
      entropy: this.#entropy,
      scores: this.#scores,
      ...(this.#ownScores && { ownScores: this.#ownScores }),
    }
  }

  /** Of a token: H = log2(sum) - sum_e p_e z_e / ln 2, with z less its largest. */
  #addRows(logits: Float32Array, normStd: number, leftOut: Uint8Array): void {
    const [powers, probabilities] = [this.#powers, this.#probabilities]
    const experts = powers.length
    let entropy = this.#entropy
    for (let at = 0; at < logits.length; at += experts) {
      const scale = normStd === 0 ? 1 : logitScale(logits, at, experts, normStd)
      let highest = Number.NEGATIVE_INFINITY
      for (let e = 0; e < experts; e++)
        if (logits[at + e]! > highest && leftOut[e] === 0) highest = logits[at + e]!
      let sum = 0
      let weighted = 0
      for (let e = 0; e < experts; e++) {
        const z = (logits[at + e]! - highest) * scale
        const power = leftOut[e] === 0 ? Math.exp(z) : 0
        powers[e] = power
        sum += power
        weighted += power * z
      }
      const inverse = 1 / sum
      for (let e = 0; e < experts; e++) probabilities[e]! += powers[e]! * inverse
      entropy += (Math.log(sum) - weighted * inverse) / Math.LN2
    }
    this.#entropy = entropy
  }
}

/** The variance of a set with Infinity or NaN is NaN. */
function areFinite({ variance }: Moments): boolean {
  return Number.isFinite(variance)
}

/** The rows of tokens whose logits are all finite. */
function finiteRows(rows: RouterScores, experts: number): RouterScores {
  const { logits, ownLogits } = rows
  const isKept = (_: number, i: number) => {
    const from = i - (i % experts)
    const areWhole = (all: Float32Array | Float64Array) =>
      all.subarray(from, from + experts).every(Number.isFinite)
    return areWhole(logits) && (!ownLogits || areWhole(ownLogits))
  }
  return {
    ...rows,
    logits: logits.filter(isKept),
    ...(ownLogits && { ownLogits: ownLogits.filter(isKept) }),
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
