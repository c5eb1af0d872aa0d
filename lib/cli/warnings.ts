/** Warnings of the library, as the command line shows them: once, and without Node's own words. */

import type { Terminal } from './terminal.js'

/** Shows warnings until it is disposed of. */
export class Warnings implements Disposable {
  readonly #terminal: Terminal
  /** Node's own, which is absent under --no-warnings. */
  readonly #others = process.listeners('warning')
  readonly #shown = new Set<string>()

  constructor(terminal: Terminal) {
    this.#terminal = terminal
    process.removeAllListeners('warning')
    process.on('warning', this.#onWarning)
  }

  [Symbol.dispose](): void {
    process.off('warning', this.#onWarning)
    for (const other of this.#others) process.on('warning', other)
  }

  readonly #onWarning = (warning: Error): void => {
    if (warning.name !== 'MoeppWarning') {
      for (const other of this.#others) other(warning)
      return
    }
    if (this.#others.length === 0 || this.#shown.has(warning.message)) return
    this.#shown.add(warning.message)
    this.#terminal.warn(warning.message)
  }
}
