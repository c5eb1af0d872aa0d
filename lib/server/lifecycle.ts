/** The requests under way, and the end of a server that waits for them. */
import { once, setMaxListeners } from 'node:events'
import type { ServerResponse } from 'node:http'

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
   * Takes no more requests, waits for those under way, and cuts after `ms` what still runs. Resolves
   * when all have been answered.
   */
  async drain(ms: number): Promise<void> {
    this.#isDraining = true
    const timer = setTimeout(() => this.#cut.abort(), ms)
    await Promise.all([...this.#responses].map(response => once(response, 'close')))
    clearTimeout(timer)
  }
}
