/**
 * Ctrl-C: the first asks the work to stop, the second ends the process at once. A work that takes
 * Ctrl-C for a key of its own handles it instead.
 */

import { constants } from 'node:os'

/** SIGBREAK is Ctrl-Break, of Windows alone. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGBREAK'] as const

export class Interrupt implements Disposable {
  readonly #controller = new AbortController()
  #received: NodeJS.Signals | undefined
  #instead: (() => void) | undefined

  constructor() {
    for (const name of SIGNALS) process.on(name, this.#onSignal)
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** The shell's exit code of a process that a signal ended; undefined if there was none. */
  get exitCode(): number | undefined {
    return this.#received && 128 + constants.signals[this.#received]
  }

  /** Resolves at the first signal. */
  get received(): Promise<void> {
    const { signal } = this
    if (signal.aborted) return Promise.resolve()
    return new Promise(resolve => signal.addEventListener('abort', () => resolve(), { once: true }))
  }

  /** The work has ended well, as the signal asked: that is no failure. */
  forgive(): void {
    this.#received = undefined
  }

  /** From now on Ctrl-C calls `instead`; undefined: as before. */
  handle(instead: (() => void) | undefined): void {
    this.#instead = instead
  }

  [Symbol.dispose](): void {
    for (const name of SIGNALS) process.off(name, this.#onSignal)
  }

  readonly #onSignal = (name: NodeJS.Signals): void => {
    if (this.#received) process.exit(128 + constants.signals[name])
    if (name === 'SIGINT' && this.#instead) {
      this.#instead()
      return
    }
    this.#received = name
    this.#controller.abort()
  }
}
