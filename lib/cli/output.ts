/** Standard output that may be slow, or closed by its reader. */

import { once } from 'node:events'

/**
 * A reader that has seen enough (`moepp generate | head`) is no failure: what writes is ended by
 * `closed`, quietly. Any other failure of standard output is thrown by the next write.
 */
export class Output {
  readonly #closed = new AbortController()
  #failure: Error | undefined

  constructor(private readonly stream: NodeJS.WriteStream) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') this.#failure = error
      this.#closed.abort()
    })
  }

  /** Aborted when nobody reads any more. */
  get closed(): AbortSignal {
    return this.#closed.signal
  }

  /** Resolves when the stream takes more. */
  async write(text: string): Promise<void> {
    if (this.#failure) throw this.#failure
    if (this.closed.aborted || this.stream.write(text)) return
    await once(this.stream, 'drain', { signal: this.closed }).catch(() => {})
    if (this.#failure) throw this.#failure
  }

  async writeJson(value: unknown): Promise<void> {
    await this.write(`${JSON.stringify(value, null, 2)}\n`)
  }
}
