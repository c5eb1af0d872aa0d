/** Warnings about a layer's routing. */
import type { ExpertKind } from '../program/expert-kinds.js'
import type { Finding, LayerStatistics } from './types.js'

/**
 * A finding is made where an even router would show the same with a probability of at most this:
 * e^-20. A model of 100 layers with 128 experts each then has a false one in 40,000 texts.
 */
export const CHANCE = Math.exp(-20)

/** An expert that so large a share of the tokens picks leaves the router nothing to decide. */
export const COLLAPSED_LOAD = 0.9

/**
 * Warnings about layers, in their order. Each rule asks how likely the same is under an even
 * router: one that lets each token pick K of E experts at random. At most e^-20, 2 in 10^9, is a
 * finding; so few tokens give none. The last rule asks for no chance.
 *
 * - 'dead-expert': no token picked an FFN expert. An even router has (1 - K / E)^T.
 * - 'collapsed-layer': at least 90 % of the tokens picked the same expert. An even router has at
 *   most exp(-T D), with D the divergence of the share from K / E (Chernoff's bound).
 * - 'no-ffn': no token has an FFN expert with a weight above 0. An even router has h_0^T.
 * - 'only-ffn': K picks of every token are FFN experts, though the layer has others. An even router
 *   has h_K^T.
 * - 'broken-router': some token has a logit that is NaN or infinite.
 *
 * h_k is the hypergeometric probability of k FFN experts among K picks. Tokens of a text are not
 * independent, so a small text of one kind may show findings that a larger one does not.
 *
 * @example
 * ```ts
 * import { loadModel, routing } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const result = await model.generate('The old man', { routing: true })
 * const layers = result.routing?.layers.map(layer => routing.statistics(layer)) ?? []
 * for (const { text } of routing.findings(layers)) console.log(text)
 * ```
 */
export function findings(layers: readonly LayerStatistics[]): Finding[] {
  return layers.flatMap(layer => RULES.flatMap(rule => rule(layer)))
}

const RULES = [deadExperts, collapse, extremes, notFinite]

function deadExperts({ layer, tokens, topK, kinds, picks }: LayerStatistics): Finding[] {
  const chance = (1 - topK / kinds.length) ** tokens
  if (chance > CHANCE) return []
  return picks.flatMap((count, expert) => {
    if (count > 0 || kinds[expert] !== 'ffn') return []
    const text =
      `Layer ${layer}: no token of ${formatted(tokens)} picked the FFN expert ${expert}. ` +
      `An even router has a probability of ${scientific(chance)} for that.`
    return [{ kind: 'dead-expert', layer, expert, text }]
  })
}

function collapse({ layer, tokens, topK, kinds, picks }: LayerStatistics): Finding[] {
  const most = Math.max(0, ...picks)
  const [load, even] = [most / tokens, topK / kinds.length]
  if (!(load >= COLLAPSED_LOAD && load > even)) return []
  if (Math.exp(-tokens * divergence(load, even)) > CHANCE) return []
  const expert = picks.indexOf(most)
  const text =
    `Layer ${layer}: ${percent(load)} of the tokens picked the ${kindName(kinds[expert]!)} expert ` +
    `${expert}. With an even router ${percent(even)} do.`
  return [{ kind: 'collapsed-layer', layer, expert, text }]
}

function extremes({ layer, tokens, topK, kinds, ffnExperts }: LayerStatistics): Finding[] {
  const ffn = kinds.filter(kind => kind === 'ffn').length
  const isUnlikely = (k: number) => hypergeometric(k, topK, ffn, kinds.length) ** tokens <= CHANCE
  if (ffnExperts[0] === tokens && isUnlikely(0)) {
    const text = `Layer ${layer}: no token of ${formatted(tokens)} has an FFN expert.`
    return [{ kind: 'no-ffn', layer, text }]
  }
  if (ffn < kinds.length && ffnExperts[topK] === tokens && isUnlikely(topK)) {
    const text =
      `Layer ${layer}: all picks of all ${formatted(tokens)} tokens are FFN experts. ` +
      'Nothing makes use of the zero-computation experts.'
    return [{ kind: 'only-ffn', layer, text }]
  }
  return []
}

function notFinite({ layer, tokens, kinds, router }: LayerStatistics): Finding[] {
  if (!router) return []
  const left = tokens - router.scores.count / kinds.length
  if (left === 0) return []
  const text =
    `Layer ${layer}: ${formatted(left)} of ${formatted(tokens)} tokens have router logits that are ` +
    'NaN or infinite.'
  return [{ kind: 'broken-router', layer, text }]
}

/** Kullback and Leibler's, of a coin that shows p from one that shows q; 0 < q < 1. */
function divergence(p: number, q: number): number {
  const part = (a: number, b: number) => (a === 0 ? 0 : a * Math.log(a / b))
  return part(p, q) + part(1 - p, 1 - q)
}

/** The probability of k FFN experts among `picks` of all `experts`, `ffn` of them FFN experts. */
function hypergeometric(k: number, picks: number, ffn: number, experts: number): number {
  return (binomial(ffn, k) * binomial(experts - ffn, picks - k)) / binomial(experts, picks)
}

/** At most 1024 over 16: no overflow. */
function binomial(n: number, k: number): number {
  let value = 1
  for (let i = 0; i < k; i++) value *= (n - i) / (i + 1)
  return value
}

function kindName(kind: ExpertKind): string {
  return kind === 'ffn' ? 'FFN' : kind
}

/** 13001 is `13,001`. */
function formatted(count: number): string {
  return count.toLocaleString('en-US')
}

function scientific(value: number): string {
  return value === 0 ? 'less than 1e-300' : value.toExponential(0)
}

function percent(share: number): string {
  return `${Math.floor(share * 1000) / 10} %`
}
