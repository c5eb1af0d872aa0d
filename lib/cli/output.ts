/** Standard output that may be slow, full, or closed by its reader. */

import { once } from 'node:events'
import { createWriteStream, fstatSync } from 'node:fs'
import type { Writable } from 'node:stream'
import { MoeppError } from '../errors.js'

/**
 * A reader that has seen enough (`moepp generate | head`) is no failure: `closed` ends the work,
 * quietly. Any other failure ends it too, and `finish` throws it.
 */
export class Output {
  readonly #stream: Writable
  readonly #closed = new AbortController()
  /** Settles when the stream is done with everything written so far. */
  #last: Promise<void> = Promise.resolve()
  #failure: MoeppError | undefined

  constructor(stream: Writable) {
    this.#stream = stream
    stream.on('error', error => this.#fail(error))
  }

  /** Aborted when the reader has left, or writing failed. */
  get closed(): AbortSignal {
    return this.#closed.signal
  }

  /** Resolves when the stream takes more. */
  async write(text: string): Promise<void> {
    if (this.closed.aborted) return
    let takesMore = true
    this.#last = new Promise(resolve => {
      takesMore = this.#stream.write(text, error => {
        if (error) this.#fail(error)
        resolve()
      })
    })
    if (takesMore) return
    await once(this.#stream, 'drain', { signal: this.closed }).catch(() => {})
  }

  /** Resolves when everything has been handed to the system. */
  flush(): Promise<void> {
    return this.#last
  }

  /** @throws MoeppError ERR_CANNOT_WRITE if something could not be written */
  async finish(): Promise<void> {
    await this.flush()
    if (this.#failure) throw this.#failure
  }

  #fail(error: NodeJS.ErrnoException): void {
    // Later writes fail too, and say nothing new.
    if (this.closed.aborted) return
    if (error.code !== 'EPIPE') {
      const message = `standard output: ${error.message}`
      this.#failure = new MoeppError('ERR_CANNOT_WRITE', message, { cause: error })
    }
    this.#closed.abort()
  }
}

/**
 * A process's standard output. Node writes to a file once, and ignores a write that a full disk cut
 * short. A stream of node:fs goes on and gets the error.
 */
export function wholeWrites(stream: NodeJS.WriteStream & { readonly fd: number }): Writable {
  const stat = fstatSync(stream.fd)
  const isFile = stat.isFile() || (stat.isCharacterDevice() && !stream.isTTY)
  return isFile ? createWriteStream('', { fd: stream.fd, autoClose: false }) : stream
}
