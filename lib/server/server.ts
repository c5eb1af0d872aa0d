/** A server of a model: it listens, drains and closes. */
import type { FastifyInstance } from 'fastify'
import type { Model } from '../generation/model.js'
import { Admission } from './admission.js'
import { createApp } from './app.js'
import type { ServerContext } from './context.js'
import { Lifecycle } from './lifecycle.js'
import { observers } from './observer.js'
import {
  GRACE_MS,
  type ResolvedServeOptions,
  resolveServeOptions,
  type ServeOptions,
} from './options.js'
import { importPeers } from './peers.js'

/**
 * The place that a server listens at.
 *
 * @example
 * ```ts
 * import type { ListenOptions } from 'moepp/server'
 *
 * const options: ListenOptions = { port: 8080, host: '127.0.0.1' }
 * console.log(options)
 * ```
 */
export interface ListenOptions {
  /** Default 8080; 0 is any that is free. */
  port?: number
  /** Name or address of an interface. Default '127.0.0.1': this machine alone. */
  host?: string
}

/**
 * A server, as `serve` returns it.
 *
 * @example
 * ```ts
 * import { loadModel } from 'moepp'
 * import { serve } from 'moepp/server'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const server = await serve(model)
 * console.log(await server.listen({ port: 0 }))
 * await server.close()
 * await model.close()
 * ```
 */
export class Server {
  /** The fastify application: for routes of your own, and for `inject` in tests. */
  readonly app: FastifyInstance
  readonly #options: ResolvedServeOptions
  readonly #lifecycle: Lifecycle
  #closing: Promise<void> | undefined

  /** @internal */
  constructor(app: FastifyInstance, options: ResolvedServeOptions, lifecycle: Lifecycle) {
    this.app = app
    this.#options = options
    this.#lifecycle = lifecycle
  }

  /**
   * Begins to take requests.
   * @returns the address, `http://127.0.0.1:8080`
   * @throws Error EADDRINUSE, EACCES and others of Node's
   *
   * @example
   * ```ts
   * import { loadModel } from 'moepp'
   * import { serve } from 'moepp/server'
   *
   * const model = await loadModel('npm:moepp-books-7m')
   * const server = await serve(model)
   * console.log(await server.listen({ port: 0 }))
   * await server.close()
   * await model.close()
   * ```
   */
  listen({ port = 8080, host = '127.0.0.1' }: ListenOptions = {}): Promise<string> {
    return this.app.listen({ port, host })
  }

  /**
   * Takes no more requests, and waits for those under way: `drainMs` at most. Those that still run
   * then end with an error. The model stays open. Closing again does nothing more.
   *
   * @example
   * ```ts
   * import { loadModel } from 'moepp'
   * import { serve } from 'moepp/server'
   *
   * const model = await loadModel('npm:moepp-books-7m')
   * const server = await serve(model, { drainMs: 5000 })
   * process.once('SIGTERM', () => server.close().then(() => model.close()))
   * process.kill(process.pid, 'SIGTERM')
   * ```
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  /** Closes the server at the end of a block. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    // Meanwhile it listens on, and says that it takes no more requests.
    await this.#lifecycle.drain(this.#options.drainMs)
    // Clients open connections ahead of requests, and they would hold it for a minute.
    const rest = setTimeout(() => this.app.server.closeAllConnections(), GRACE_MS)
    await this.app.close()
    clearTimeout(rest)
  }
}

/**
 * A server of a model: OpenAI's HTTP interface, a page to try it, metrics. It does not listen yet.
 *
 * It needs fastify, and what its options name besides: `npm install fastify prom-client
 * @fastify/cors`. The model must have a tokenizer. It stays the caller's, who closes it.
 *
 * @throws TypeError, RangeError for a wrong option; MoeppError ERR_BAD_TOKENIZER, ERR_CLOSED
 *
 * @example
 * ```ts
 * import { loadModel } from 'moepp'
 * import { serve } from 'moepp/server'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const server = await serve(model, { modelName: 'books-7m', logLevel: 'info' })
 * const address = await server.listen({ port: 0 })
 * const answer = await fetch(`${address}/v1/completions`, {
 *   method: 'POST',
 *   headers: { 'content-type': 'application/json' },
 *   body: JSON.stringify({ model: 'books-7m', prompt: 'The old man', max_tokens: 16 }),
 * })
 * console.log(await answer.json())
 * await server.close()
 * await model.close()
 * ```
 */
export async function serve(model: Model, options: ServeOptions = {}): Promise<Server> {
  const resolved = resolveServeOptions(options)
  // Throws if there is none.
  void model.tokenizer
  const peers = await importPeers(resolved)
  const lifecycle = new Lifecycle()
  const admission = new Admission(resolved)
  const { modelName } = resolved
  const metrics = peers.metrics && new peers.metrics.Metrics(model, admission, modelName)
  const tracer = peers.tracing && new peers.tracing.TextTracer(modelName)
  const context: ServerContext = {
    model,
    options: resolved,
    admission,
    lifecycle,
    observer: observers([metrics, tracer].filter(each => each !== undefined)),
    metrics,
    created: Math.floor(Date.now() / 1000),
  }
  return new Server(await createApp(context, peers), resolved, lifecycle)
}
