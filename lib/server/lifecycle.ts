/** The requests under way, and the end of a server that waits for them. */
import { setMaxListeners } from 'node:events'
import type { ServerResponse } from 'node:http'
import { GRACE_MS } from './options.js'

export class Lifecycle {
  readonly #cut = new AbortController()
  readonly #responses = new Set<ServerResponse>()
  #isDraining = false

  constructor() {
    // Each request listens.
    setMaxListeners(0, this.#cut.signal)
  }

  /** True once the server takes no more requests. */
  get isDraining(): boolean {
    return this.#isDraining
  }

  /** Aborts when the requests under way must end now. */
  get cut(): AbortSignal {
    return this.#cut.signal
  }

  /** A request has begun. */
  add(response: ServerResponse): void {
    this.#responses.add(response)
    response.once('close', () => this.#responses.delete(response))
  }

  /**
   * Takes no more requests, and waits for those under way. After `ms` it cuts those that still run.
   * Resolves when all have been answered.
   */
  async drain(ms: number): Promise<void> {
    this.#isDraining = true
    const timers = [
      setTimeout(() => this.#cut.abort(), ms),
      // Clients that send no whole request, or read no answer.
      setTimeout(() => this.#destroyAll(), ms + GRACE_MS),
    ]
    await Promise.all([...this.#responses].map(closed))
    for (const timer of timers) clearTimeout(timer)
  }

  #destroyAll(): void {
    for (const response of this.#responses) response.destroy()
  }
}

function closed(response: ServerResponse): Promise<void> {
  return new Promise(resolve => response.once('close', resolve))
}
