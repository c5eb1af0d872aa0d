/** Events of the texts that routes compute, for metrics and traces. */
import type { GenerateResult } from '../generation/results.js'

/** One text of a request. Its calls come in this order. */
export interface TextObserver {
  /** It has left the queue. */
  started(): void
  /** New tokens came, `count` of them; a last piece of text may have none. */
  tokens(count: number): void
  /** It has ended well; not called for a text that failed. */
  finished(result: Pick<GenerateResult, 'usage' | 'finishReason' | 'routing'>): void
}

export interface Observer {
  /** True if results must have `routing`, with its counts. */
  readonly wantsRouting: boolean
  /** A text that has been admitted and now waits for its turn. */
  text(route: string): TextObserver
}

/** All of them as one; of none, one that does nothing. */
export function observers(all: readonly Observer[]): Observer {
  return {
    wantsRouting: all.some(({ wantsRouting }) => wantsRouting),
    text: route => {
      const texts = all.map(observer => observer.text(route))
      return {
        started: () => texts.forEach(text => void text.started()),
        tokens: count => texts.forEach(text => void text.tokens(count)),
        finished: result => texts.forEach(text => void text.finished(result)),
      }
    },
  }
}
