/** Counts of a layer's routing. */
import type { LayerRouting } from '../generation/results.js'
import type { ExpertKind } from '../program/expert-kinds.js'
import { mergeMoments } from './moments.js'
import { RouterSums } from './router-scores.js'
import type { LayerStatistics, RouterScores, RouterStatistics } from './types.js'

/**
 * Counts the tokens of a layer: `layer` as the option `routing: true` gives it.
 *
 * With the router's logits the result has `router`: the sums of softmax(logits), the sum of their
 * entropies, and the moments of all logits. Layers without tokens have counts of 0.
 *
 * A broken model may give NaN or Infinity. `router` leaves the tokens with such logits out, and a
 * weight that is NaN counts as 0.
 *
 * @param layer the picks of T tokens
 * @param scores the router's logits of the same tokens, captured by `model.forward`
 * @throws RangeError for arrays of wrong lengths, or an expert that does not exist
 *
 * @example
 * ```ts
 * import { loadModel, routing } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const result = await model.generate('The old man', { routing: true })
 * for (const layer of result.routing?.layers ?? []) {
 *   const { tokens, ffnExperts } = routing.statistics(layer)
 *   console.log(`layer ${layer.layer}: ${ffnExperts[0]} of ${tokens} tokens without FFN experts`)
 * }
 * ```
 */
export function statistics(layer: LayerRouting, scores?: RouterScores): LayerStatistics {
  checkRouting(layer)
  if (scores) checkScores(layer, scores)
  const counter = new LayerCounter(layer)
  counter.add(layer.expertIndices, layer.expertWeights)
  if (scores) counter.addScores(scores)
  return counter.result()
}

/**
 * The statistics of two parts of a text as those of both together: sums are added, moments merged
 * (Chan, Golub and LeVeque 1979). The result has `router` if both have it.
 *
 * @throws RangeError if they are not of the same layer
 *
 * @example
 * ```ts
 * import { loadModel, routing } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const parts = await model.generate(['The old man', 'She said'], { routing: true })
 * const [first, second] = parts.map(part => part.routing?.layers.map(l => routing.statistics(l)))
 * if (first?.[0] && second?.[0]) console.log(routing.merge(first[0], second[0]).tokens)
 * ```
 */
export function merge(a: LayerStatistics, b: LayerStatistics): LayerStatistics {
  const isSame =
    a.layer === b.layer && a.topK === b.topK && a.kinds.join('\n') === b.kinds.join('\n')
  if (!isSame) {
    throw new RangeError(
      `b: expected layer ${a.layer} with ${a.topK} of ${a.kinds.length} experts, ` +
        `got layer ${b.layer} with ${b.topK} of ${b.kinds.length}`,
    )
  }
  return {
    layer: a.layer,
    tokens: a.tokens + b.tokens,
    topK: a.topK,
    kinds: a.kinds,
    picks: sums(a.picks, b.picks),
    weights: sums(a.weights, b.weights),
    ffnExperts: sums(a.ffnExperts, b.ffnExperts),
    ...(a.router && b.router && { router: mergeRouters(a.router, b.router) }),
  }
}

function mergeRouters(a: RouterStatistics, b: RouterStatistics): RouterStatistics {
  return {
    probabilities: sums(a.probabilities, b.probabilities),
    entropy: a.entropy + b.entropy,
    scores: mergeMoments(a.scores, b.scores),
    ...(a.ownScores && b.ownScores && { ownScores: mergeMoments(a.ownScores, b.ownScores) }),
  }
}

function sums(a: readonly number[], b: readonly number[]): number[] {
  return a.map((value, i) => value + b[i]!)
}

type Layer = Pick<LayerRouting, 'layer' | 'topK' | 'kinds'>

/** Counts a layer's tokens as they come. Its arrays are not checked. */
export class LayerCounter {
  readonly #layer: Layer
  readonly #isFfn: Uint8Array
  readonly #picks: Float64Array
  readonly #weights: Float64Array
  readonly #ffnExperts: Float64Array
  #tokens = 0
  #router: RouterSums | undefined

  constructor(layer: Layer) {
    this.#layer = layer
    this.#isFfn = ffnFlags(layer.kinds)
    this.#picks = new Float64Array(layer.kinds.length)
    this.#weights = new Float64Array(layer.kinds.length)
    this.#ffnExperts = new Float64Array(layer.topK + 1)
  }

  /**
   * @param experts, weights [T, K]
   * @param counts [T] gets the number of each token's FFN experts
   */
  add(experts: Int32Array, weights: Float32Array, counts?: Uint8Array): void {
    const { topK } = this.#layer
    const [picks, sums, isFfn] = [this.#picks, this.#weights, this.#isFfn]
    const tokens = experts.length / topK
    for (let t = 0, i = 0; t < tokens; t++) {
      let ffn = 0
      for (const end = i + topK; i < end; i++) {
        const expert = experts[i]!
        const weight = weights[i]!
        picks[expert]!++
        // No NaN: a router whose logits are NaN gives such weights.
        if (weight > 0) {
          sums[expert]! += weight
          ffn += isFfn[expert]!
        }
      }
      this.#ffnExperts[ffn]!++
      if (counts) counts[t] = ffn
    }
    this.#tokens += tokens
  }

  addScores(scores: RouterScores): void {
    this.#router ??= new RouterSums(this.#layer.kinds)
    this.#router.add(scores)
  }

  result(): LayerStatistics {
    const { layer, topK, kinds } = this.#layer
    return {
      layer,
      tokens: this.#tokens,
      topK,
      kinds,
      picks: [...this.#picks],
      weights: [...this.#weights],
      ffnExperts: [...this.#ffnExperts],
      ...(this.#router && { router: this.#router.result() }),
    }
  }
}

/** 1 at each index of an expert with a feed-forward network. */
export function ffnFlags(kinds: readonly ExpertKind[]): Uint8Array {
  return Uint8Array.from(kinds, kind => Number(kind === 'ffn'))
}

/** @throws RangeError */
export function checkRouting({ layer, topK, kinds, expertIndices, expertWeights }: LayerRouting) {
  const where = `layer ${layer}`
  if (!Number.isInteger(topK) || topK < 1)
    throw new RangeError(`${where}: topK: expected an integer from 1, got ${topK}`)
  if (expertIndices.length % topK !== 0) {
    throw new RangeError(
      `${where}: expertIndices: expected a multiple of topK, ${topK}, got ${expertIndices.length}`,
    )
  }
  checkLength(`${where}: expertWeights`, expertWeights.length, expertIndices.length)
  const at = expertIndices.findIndex(expert => !(expert >= 0 && expert < kinds.length))
  if (at !== -1) {
    throw new RangeError(
      `${where}: expertIndices[${at}]: expected 0 to ${kinds.length - 1}, got ${expertIndices[at]}`,
    )
  }
}

function checkScores({ layer, topK, kinds, expertIndices }: LayerRouting, scores: RouterScores) {
  const expected = (expertIndices.length / topK) * kinds.length
  checkLength(`layer ${layer}: logits`, scores.logits.length, expected)
  if (scores.ownLogits) checkLength(`layer ${layer}: ownLogits`, scores.ownLogits.length, expected)
}

function checkLength(name: string, got: number, expected: number): void {
  if (got !== expected) throw new RangeError(`${name}: expected ${expected} numbers, got ${got}`)
}
