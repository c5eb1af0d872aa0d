/** The routing of an answer: a field of moepp's own, for those who ask for it. */
import type { ChatChunk } from '../../generation/chat-results.js'
import type { ChunkRouting, GenerateChunk } from '../../generation/results.js'

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

/** True if a chunk is there for its routing alone. */
export function hasOnlyRouting(chunk: GenerateChunk | ChatChunk): boolean {
  const { tokenIds, routing, ...parts } = chunk
  return routing !== undefined && [...tokenIds, ...Object.values(parts)].every(part => part === '')
}

/** To four digits. */
export function rounded(value: number): number {
  return Math.round(value * 1e4) / 1e4
}
