/** The progress of `moepp generate --prompts`: one line on standard error, on a terminal only. */

import { formatCount, formatDuration, formatNumber, formatRate } from './format.js'
import type { Terminal } from './terminal.js'

const LEAST_INTERVAL_MS = 200
const CLEAR_LINE = '\r\u001b[K'

export interface ProgressParts {
  readonly terminal: Terminal
  readonly isShown: boolean
  /** All prompts; unknown for standard input. */
  readonly total: number | undefined
  /** Results of an earlier run. */
  readonly before: number
}

export class BatchProgress implements Disposable {
  readonly #terminal: Terminal
  readonly #isShown: boolean
  readonly #total: number | undefined
  readonly #before: number
  readonly #startedMs = performance.now()
  #done = 0
  #tokens = 0
  #drawnMs = Number.NEGATIVE_INFINITY

  constructor({ terminal, isShown, total, before }: ProgressParts) {
    this.#terminal = terminal
    this.#isShown = isShown
    this.#total = total
    this.#before = before
  }

  /** Results of this run. */
  get done(): number {
    return this.#done
  }

  /** `12,345 tokens at 812 tokens/s`. */
  get speed(): string {
    return `${formatCount(this.#tokens)} tokens at ${formatRate(this.#tokensPerSecond)} tokens/s`
  }

  /** Counts one more result, and its tokens. */
  add(tokens: number): void {
    this.#done++
    this.#tokens += tokens
    if (!this.#isShown) return
    const now = performance.now()
    if (now - this.#drawnMs < LEAST_INTERVAL_MS) return
    this.#drawnMs = now
    this.#terminal.stderr.write(CLEAR_LINE + this.#line().slice(0, this.#terminal.columns - 1))
  }

  /** Takes the line off the screen, until the next result. */
  clear(): void {
    if (this.#drawnMs === Number.NEGATIVE_INFINITY) return
    this.#terminal.stderr.write(CLEAR_LINE)
    this.#drawnMs = Number.NEGATIVE_INFINITY
  }

  [Symbol.dispose](): void {
    this.clear()
  }

  get #seconds(): number {
    return (performance.now() - this.#startedMs) / 1000
  }

  get #tokensPerSecond(): number {
    return this.#tokens / this.#seconds
  }

  #line(): string {
    const done = this.#before + this.#done
    const rate = `${formatRate(this.#tokensPerSecond)} tokens/s`
    if (this.#total === undefined) return `${formatNumber(done, 'prompt')}, ${rate}`
    const left = Math.max(0, this.#total - done) * (this.#seconds / this.#done)
    const all = `${formatCount(done)} of ${formatCount(this.#total)} prompts`
    return `${all}, ${rate}, ${formatDuration(left)} left`
  }
}
