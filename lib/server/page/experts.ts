/** Brings FFN experts to the tokens of an answer: a token's come one chunk late. */
import type { Routing } from './chunks.js'
import type { Score } from './pieces.js'

export class Experts {
  /** Of one request, in order. */
  #scores: Score[] = []

  /** The next tokens are another request's. */
  begin(): void {
    this.#scores = []
  }

  /** @returns the tokens of this chunk and of those before it that are known now */
  add(scores: readonly Score[], routing: Routing | undefined): Score[] {
    this.#scores.push(...scores)
    if (routing === undefined) return []
    const { first, promptTokens, ffnExperts } = routing
    return ffnExperts.flatMap((experts, i) => {
      const score = this.#scores[first - promptTokens + i]
      if (score === undefined) return []
      score.ffnExperts = experts
      return [score]
    })
  }
}
