/** Events of the texts that routes compute, for metrics and traces. */
import type { GenerateResult } from '../generation/results.js'

/** One text of a request. Its calls come in this order. */
export interface TextObserver {
  /** It has left the queue. */
  started(): void
  /** New tokens came, `count` of them. */
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

const nothing = () => {}

/** Of a server without metrics. */
export const NO_OBSERVER: Observer = {
  wantsRouting: false,
  text: () => ({ started: nothing, tokens: nothing, finished: nothing }),
}
