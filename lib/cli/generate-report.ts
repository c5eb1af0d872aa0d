/** Formats the results of `generate` and `chat`. */

import type { ModelConfig } from '../families/family.js'
import type { GenerateResult, Routing } from '../generation/results.js'
import { meanFfnExperts } from '../generation/routing.js'
import { formatCount, formatRate, formatRatio } from './format.js'

/**
 * `84 prompt tokens (80 cached) at 81 tokens/s, 9 generated at 90 tokens/s, 1.06 of 2 FFN experts
 * per token`
 */
export function figuresLine(
  results: readonly GenerateResult[],
  { topK }: Pick<ModelConfig, 'topK'>,
): string {
  const sum = (value: (result: GenerateResult) => number) =>
    results.reduce((all, each) => all + value(each), 0)
  const most = (value: (result: GenerateResult) => number) => Math.max(...results.map(value))
  const prompt = sum(({ usage }) => usage.promptTokens)
  const cached = sum(({ usage }) => usage.cachedTokens)
  const computed = prompt - cached
  const generated = sum(({ usage }) => usage.generatedTokens)
  // Several texts are computed together: the time that passes is that of the slowest, not the sum.
  const prefill = rate(
    computed,
    most(({ timings }) => timings.prefillMs),
  )
  const decode = rate(
    generated - results.length,
    most(({ timings }) => timings.decodeMs),
  )
  const parts = [
    `${formatCount(prompt)} prompt tokens${cached > 0 ? ` (${formatCount(cached)} cached)` : ''}${prefill}`,
    `${formatCount(generated)} generated${decode}`,
    `${formatRatio(meanFfnExperts(results.map(({ routing }) => routing)))} of ${topK} FFN experts per token`,
  ]
  return parts.join(', ')
}

/**
 * One document: the result, or for several `results`. Per-layer routing only `withRouting`: it is
 * long.
 */
export function jsonDocument(
  model: string,
  prompt: string,
  results: readonly GenerateResult[],
  withRouting: boolean,
): object {
  const documents = results.map(result => resultDocument(result, withRouting))
  return { model, prompt, ...(documents.length === 1 ? documents[0] : { results: documents }) }
}

/** A result as JSON has it. */
export function resultDocument<T extends { readonly routing?: Routing }>(
  { routing, ...result }: T,
  withRouting: boolean,
): object {
  return {
    ...result,
    ffnExpertsPerToken: routing?.ffnExpertsPerToken ?? 0,
    ...(withRouting && routing && { routing: plainRouting(routing) }),
  }
}

/** Routing as JSON has it: typed arrays would become objects with a key for each index. */
export function plainRouting({ first, tokens, counts, layers }: Routing): object {
  return {
    first,
    tokens,
    counts,
    layers: layers.map(({ expertIndices, expertWeights, ...layer }) => ({
      ...layer,
      expertIndices: [...expertIndices],
      expertWeights: [...expertWeights],
    })),
  }
}

/** Nothing where nothing was measured. */
function rate(tokens: number, ms: number): string {
  if (!(tokens > 0 && ms > 0)) return ''
  return ` at ${formatRate((tokens * 1000) / ms)} tokens/s`
}
