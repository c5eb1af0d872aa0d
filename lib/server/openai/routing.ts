/** The routing of an answer: a field of moepp's own, for those who ask for it. */
import type { ChunkRouting, Routing } from '../../generation/results.js'

/** Of tokens that follow each other. Token i of the text is number `prompt_tokens` + i. */
export interface RoutingField {
  readonly first: number
  readonly prompt_tokens: number
  /** Of each token, to four digits. */
  readonly ffn_experts: readonly number[]
}

export function routingField({ first, promptTokens, ffnExperts }: ChunkRouting): RoutingField {
  return { first, prompt_tokens: promptTokens, ffn_experts: ffnExperts.map(rounded) }
}

/** A result with the routing of all its chunks, if it is to be in the answer. */
export interface Told {
  readonly told?: ChunkRouting | undefined
}

/** The mean over the computed tokens of all texts. */
export function ffnExpertsPerToken(results: readonly { readonly routing?: Routing }[]): number {
  let [tokens, experts] = [0, 0]
  for (const { routing } of results) {
    tokens += routing?.tokens ?? 0
    experts += (routing?.tokens ?? 0) * (routing?.ffnExpertsPerToken ?? 0)
  }
  return rounded(experts / Math.max(1, tokens))
}

function rounded(value: number): number {
  return Math.round(value * 1e4) / 1e4
}
