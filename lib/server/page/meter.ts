/** Measures an answer while it comes. */
import type { Usage } from './chunks.js'

const REASONS: Readonly<Record<string, string>> = {
  stop: 'ended by itself',
  length: 'cut at the limit of tokens',
  tool_calls: 'calls a tool',
}

/** Times of a request: from its start to the first and the last part of the answer, in ms. */
export class Meter {
  readonly #now: () => number
  readonly #start: number
  #first: number | undefined
  #last = 0
  #parts = 0

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
    this.#start = now()
  }

  /** A part of the answer has come, with so many tokens as the server says; 0 if it says none. */
  part(tokens: number): void {
    this.#last = this.#now()
    this.#first ??= this.#last
    this.#parts += tokens || 1
  }

  /** One line. Without usage, of an answer that was stopped, the tokens are those that came. */
  summary(usage: Usage | undefined, finish: string | undefined): string {
    const tokens = usage?.tokens ?? this.#parts
    const prompt = usage ? `${usage.promptTokens} + ` : ''
    const facts = [`${prompt}${tokens} ${tokens === 1 ? 'token' : 'tokens'}`]
    if (this.#first !== undefined) {
      const seconds = (this.#last - this.#first) / 1000
      if (tokens > 1 && seconds > 0) facts.push(`${((tokens - 1) / seconds).toFixed(1)} tokens/s`)
      facts.push(`first after ${((this.#first - this.#start) / 1000).toFixed(2)} s`)
    }
    if (usage?.ffnExpertsPerToken !== undefined)
      facts.push(`${usage.ffnExpertsPerToken.toFixed(2)} FFN experts per token`)
    if (finish !== undefined) facts.push(REASONS[finish] ?? finish)
    return facts.join(' · ')
  }
}
