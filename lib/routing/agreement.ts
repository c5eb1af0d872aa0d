/** The choices of two layers, compared. */
import type { LayerRouting } from '../generation/results.js'
import { checkRouting, ffnFlags } from './statistics.js'
import type { LayerAgreement } from './types.js'

/**
 * The choices of one layer beside those of the next, over the same tokens.
 *
 * - `same`: mean of |A and B| / K, with A and B a token's picks in both layers
 * - `expected`: sum_i f_i g_i / K, with f and g the shares of the tokens that picked expert i
 * - `information`: sum_ij p_ij log2(p_ij / (p_i q_j)) over the first choices. For few tokens it is
 *   too large: by about (E - 1)^2 / (2 T ln 2) for independent choices
 * - `ffnCorrelation`: Pearson's, of the numbers of FFN experts with a weight above 0
 *
 * K is the smaller of both layers'. Without tokens the first three are 0.
 *
 * @throws RangeError for arrays of wrong lengths, an expert that does not exist, or layers with
 *   different numbers of tokens
 *
 * @example
 * ```ts
 * import { loadModel, routing } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const result = await model.generate('The old man', { routing: true })
 * const [first, second] = result.routing?.layers ?? []
 * if (first && second) console.log(routing.agreement(first, second).same)
 * ```
 */
export function agreement(a: LayerRouting, b: LayerRouting): LayerAgreement {
  for (const layer of [a, b]) checkRouting(layer)
  const [tokens, others] = [a, b].map(({ expertIndices, topK }) => expertIndices.length / topK)
  if (tokens !== others)
    throw new RangeError(`b: expected ${tokens} tokens, as layer ${a.layer} has, got ${others}`)
  const counter = new AgreementCounter(a, b)
  counter.add(a.expertIndices, ffnCounts(a), b.expertIndices, ffnCounts(b))
  return counter.result()
}

/** [T] */
function ffnCounts({ topK, kinds, expertIndices, expertWeights }: LayerRouting): Uint8Array {
  const isFfn = ffnFlags(kinds)
  const counts = new Uint8Array(expertIndices.length / topK)
  for (const [i, expert] of expertIndices.entries())
    if (expertWeights[i]! > 0) counts[Math.floor(i / topK)]! += isFfn[expert]!
  return counts
}

type Layer = Pick<LayerRouting, 'layer' | 'topK' | 'kinds'>

/** Counts the tokens of two layers as they come. */
export class AgreementCounter {
  readonly #a: Layer
  readonly #b: Layer
  readonly #picksOfA: Float64Array
  readonly #picksOfB: Float64Array
  /** [E, E'] tokens by their first choices. */
  readonly #firsts: Float64Array
  /** By expert: the number of the last token that picked it in the first layer. */
  readonly #pickedBy: Float64Array
  #tokens = 0
  #shared = 0
  readonly #ffn = { a: 0, b: 0, aa: 0, bb: 0, ab: 0 }

  constructor(a: Layer, b: Layer) {
    this.#a = a
    this.#b = b
    const most = Math.max(a.kinds.length, b.kinds.length)
    this.#picksOfA = new Float64Array(most)
    this.#picksOfB = new Float64Array(most)
    this.#firsts = new Float64Array(a.kinds.length * b.kinds.length)
    this.#pickedBy = new Float64Array(most)
  }

  /** @param a, b [T, K] the picks; `ffnOfA`, `ffnOfB` [T] numbers of FFN experts */
  add(a: Int32Array, ffnOfA: Uint8Array, b: Int32Array, ffnOfB: Uint8Array): void {
    const [K, L] = [this.#a.topK, this.#b.topK]
    const experts = this.#b.kinds.length
    const ffn = this.#ffn
    for (let t = 0; t < a.length / K; t++) {
      // From 1 on: 0 is no token.
      const token = ++this.#tokens
      for (let i = t * K; i < (t + 1) * K; i++) {
        this.#picksOfA[a[i]!]!++
        this.#pickedBy[a[i]!] = token
      }
      for (let i = t * L; i < (t + 1) * L; i++) {
        this.#picksOfB[b[i]!]!++
        if (this.#pickedBy[b[i]!] === token) this.#shared++
      }
      this.#firsts[a[t * K]! * experts + b[t * L]!]!++
      const [x, y] = [ffnOfA[t]!, ffnOfB[t]!]
      ffn.a += x
      ffn.b += y
      ffn.aa += x * x
      ffn.bb += y * y
      ffn.ab += x * y
    }
  }

  result(): LayerAgreement {
    const T = this.#tokens
    const K = Math.min(this.#a.topK, this.#b.topK)
    const both = this.#picksOfA.reduce((sum, picks, i) => sum + picks * this.#picksOfB[i]!, 0)
    return {
      layer: this.#a.layer,
      nextLayer: this.#b.layer,
      same: T === 0 ? 0 : this.#shared / (T * K),
      expected: T === 0 ? 0 : both / (T * T * K),
      information: this.#information(),
      ffnCorrelation: this.#correlation(),
    }
  }

  #information(): number {
    const columns = this.#b.kinds.length
    const first = new Float64Array(this.#a.kinds.length)
    const second = new Float64Array(columns)
    for (const [i, count] of this.#firsts.entries()) {
      first[Math.floor(i / columns)]! += count
      second[i % columns]! += count
    }
    let bits = 0
    for (const [i, count] of this.#firsts.entries()) {
      if (count === 0) continue
      const independent = first[Math.floor(i / columns)]! * second[i % columns]!
      bits += (count / this.#tokens) * Math.log2((count * this.#tokens) / independent)
    }
    // Rounding may leave less than nothing.
    return Math.max(0, bits)
  }

  #correlation(): number | null {
    const T = this.#tokens
    const { a, b, aa, bb, ab } = this.#ffn
    const [ofA, ofB] = [T * aa - a * a, T * bb - b * b]
    if (ofA <= 0 || ofB <= 0) return null
    return (T * ab - a * b) / Math.sqrt(ofA * ofB)
  }
}
