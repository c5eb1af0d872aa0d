/** The report in a few sentences. */
import { ffnExpertsPerToken } from '../balance.js'
import type { LayerStatistics, Subject } from '../types.js'
import { savings } from './charts/costs.js'
import { decimal, percent, symbols } from './format.js'

/** A token must occur so often to be named. */
export const OFTEN = 10
/** Tokens that are named. */
const NAMED = 5

/** Sentences about a subject, the most telling first. */
export function facts({ layers, ffnExperts, vocabulary, cost }: Subject): string[] {
  const most = Math.max(0, ...layers.map(({ topK }) => topK))
  const often = vocabulary.filter(({ ffnExperts }) => ffnExperts.count >= OFTEN)
  const list = (tokens: typeof often) =>
    tokens.map(({ text, ffnExperts }) => `${symbols(text)} ${decimal(ffnExperts.mean)}`).join(', ')
  const hasChoice = ffnExperts.mean < most
  return [
    `A token takes ${decimal(ffnExperts.mean)} of ${most} FFN experts, as a mean of layers.`,
    ...(cost ? [savings(cost)] : []),
    ...(hasChoice ? extremes(layers) : []),
    ...(hasChoice && often.length >= 2 * NAMED
      ? [
          `Dearest tokens: ${list(often.slice(0, NAMED))}.`,
          `Cheapest: ${list(often.slice(-NAMED).reverse())}. All occur ${OFTEN} times or more.`,
        ]
      : []),
  ].map(sentence => sentence.replaceAll(' %', '\u00a0%'))
}

/** The layers that stand out. */
function extremes(layers: readonly LayerStatistics[]): string[] {
  const without = ({ ffnExperts: [none = 0], tokens }: LayerStatistics) =>
    none / Math.max(tokens, 1)
  const by = (of: (layer: LayerStatistics) => number) => [...layers].sort((a, b) => of(b) - of(a))
  const [dearest, cheapest] = [by(ffnExpertsPerToken)[0], by(ffnExpertsPerToken).at(-1)]
  const [idle] = by(without)
  if (!dearest || !cheapest || !idle || dearest === cheapest) return []
  return [
    `Layer ${dearest.layer} uses most FFN experts, ${decimal(ffnExpertsPerToken(dearest))} a token, ` +
      `and layer ${cheapest.layer} fewest, ${decimal(ffnExpertsPerToken(cheapest))}.`,
    `In layer ${idle.layer}, ${percent(without(idle))} of the tokens have no FFN expert at all.`,
  ]
}
