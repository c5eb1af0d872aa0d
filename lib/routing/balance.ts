/** The spread of a layer's picks over its experts. */
import type { ExpertKind } from '../program/expert-kinds.js'
import type { LayerBalance, LayerStatistics, RouterStatistics } from './types.js'

/** As the paper's 7B model was trained with: its table 3. */
const PAPER_TAU = 0.75

/**
 * The entropy, in bits, of shares that are proportional to these numbers: -sum_i s_i log2(s_i). It
 * is 0 if all are 0, or there are none.
 *
 * @throws RangeError for a number below 0, or not finite
 *
 * @example
 * ```ts
 * import { routing } from 'moepp'
 *
 * console.log(routing.entropy([5, 5, 5, 5])) // 2
 * ```
 */
export function entropy(numbers: readonly number[]): number {
  const at = numbers.findIndex(number => !(number >= 0 && number < Number.POSITIVE_INFINITY))
  if (at !== -1)
    throw new RangeError(`numbers[${at}]: expected a number from 0, got ${numbers[at]}`)
  const sum = total(numbers)
  return numbers.reduce((bits, n) => (n === 0 ? bits : bits - (n / sum) * Math.log2(n / sum)), 0)
}

/**
 * Of each expert, the share of the tokens that picked it: f_i = picks_i / T. Together they are K; 0
 * without tokens.
 *
 * @example
 * ```ts
 * import { loadModel, routing } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const result = await model.generate('The old man', { routing: true })
 * console.log(result.routing?.layers.map(layer => routing.loads(routing.statistics(layer))))
 * ```
 */
export function loads({ picks, tokens }: LayerStatistics): number[] {
  return picks.map(count => (tokens === 0 ? 0 : count / tokens))
}

/**
 * Of each kind of expert, the share of all picks. Together they are 1; 0 without tokens.
 *
 * @example
 * ```ts
 * import { loadModel, routing } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const result = await model.generate('The old man', { routing: true })
 * for (const layer of result.routing?.layers ?? [])
 *   console.log(layer.layer, routing.shares(routing.statistics(layer)).ffn)
 * ```
 */
export function shares({ picks, kinds }: LayerStatistics): Readonly<Record<ExpertKind, number>> {
  const all = total(picks)
  const of = { ffn: 0, constant: 0, copy: 0, zero: 0 }
  for (const [i, kind] of kinds.entries()) if (all > 0) of[kind] += picks[i]! / all
  return of
}

/**
 * The spread of a layer's picks, in four figures.
 *
 * - `loss`: the heterogeneous load-balancing loss of MoE++ (arXiv 2410.07348), sum_i eta_i f_i P_i.
 *   f_i is the share of the tokens that picked expert i, P_i the mean of softmax(logits)_i. eta_i
 *   is 1 for an FFN expert and `tau` for the others. An even router with tau 1 has K / E.
 * - `variation`: coefficient of variation of the FFN experts' loads, the standard deviation
 *   (divided by their number) by the mean (Shazeer et al. 2017, arXiv 1701.06538). 0 is even.
 * - `violation`: the largest load of an FFN expert by their mean, less 1 (MaxVio of Wang et al.
 *   2024, arXiv 2408.15664). 0 is even.
 * - `entropy`: of all experts' shares of the picks, by its maximum log2(E). 1 is even.
 *
 * A figure is null where it is not defined. `loss` needs finite logits, `entropy` two
 * experts, `variation` and `violation` a pick of an FFN expert. Without tokens all are null. A
 * layer with one FFN expert has variation and violation 0.
 *
 * @param tau weight of zero-computation experts; default 0.75, that of the paper's 7B model
 * @throws RangeError for a tau below 0
 *
 * @example
 * ```ts
 * import { loadModel, routing } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const result = await model.generate('The old man', { routing: true })
 * for (const layer of result.routing?.layers ?? [])
 *   console.log(layer.layer, routing.balance(routing.statistics(layer)).violation)
 * ```
 */
export function balance(layer: LayerStatistics, tau: number = PAPER_TAU): LayerBalance {
  if (!(tau >= 0 && tau < Number.POSITIVE_INFINITY))
    throw new RangeError(`tau: expected a number from 0, got ${tau}`)
  const { picks, kinds, tokens } = layer
  const isEmpty = tokens === 0
  const ffn = picks.filter((_, i) => kinds[i] === 'ffn')
  const mean = total(ffn) / ffn.length
  const isFfnUsed = ffn.length > 0 && mean > 0
  return {
    loss: balanceLoss(layer, tau),
    variation: isFfnUsed ? deviation(ffn, mean) / mean : null,
    violation: isFfnUsed ? Math.max(...ffn) / mean - 1 : null,
    entropy: isEmpty || picks.length < 2 ? null : entropy(picks) / Math.log2(picks.length),
  }
}

function balanceLoss({ picks, kinds, tokens, router }: LayerStatistics, tau: number) {
  if (!router || router.scores.count === 0) return null
  const scored = scoredTokens(router, kinds.length)
  return picks.reduce((sum, count, i) => {
    const eta = kinds[i] === 'ffn' ? 1 : tau
    return sum + (eta * (count / tokens) * router.probabilities[i]!) / scored
  }, 0)
}

/** The mean number of FFN experts of a token, of a weight above 0; 0 without tokens. */
export function ffnExpertsPerToken({ ffnExperts, tokens }: LayerStatistics): number {
  return ffnExperts.reduce((sum, count, k) => sum + count * k, 0) / Math.max(tokens, 1)
}

/** Tokens with finite logits: the router's sums are theirs alone. */
export function scoredTokens({ scores }: RouterStatistics, experts: number): number {
  return scores.count / experts
}

/** The mean entropy of softmax(logits) of a layer, in bits; undefined where no token has logits. */
export function routerEntropy({ router, kinds }: LayerStatistics): number | undefined {
  if (!router || router.scores.count === 0) return undefined
  return router.entropy / scoredTokens(router, kinds.length)
}

function deviation(values: readonly number[], mean: number): number {
  return Math.sqrt(total(values.map(value => (value - mean) ** 2)) / values.length)
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0)
}
