/** An answer that is sent event by event, as server-sent events (text/event-stream). */
import { Readable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import type { RequestError } from './errors.js'

/**
 * Events that wait for their reader. Nothing else waits for a reader: one who leaves more bytes
 * than `maxUnreadBytes` unread loses the connection. A single event may be larger.
 */
export class EventStream extends Readable {
  readonly #maxUnreadBytes: number

  constructor(maxUnreadBytes: number) {
    super({ read: () => {} })
    this.#maxUnreadBytes = maxUnreadBytes
  }

  /** Begins the answer: from here on errors are events. */
  answer(reply: FastifyReply): void {
    reply.header('cache-control', 'no-cache').header('x-accel-buffering', 'no')
    reply.type('text/event-stream; charset=utf-8').send(this)
  }

  event(data: object): void {
    this.#write(JSON.stringify(data))
  }

  /** The last event. */
  end(): void {
    this.#write('[DONE]')
    if (!this.destroyed) this.push(null)
  }

  fail(error: RequestError): void {
    this.event(error.body)
    this.end()
  }

  #write(data: string): void {
    if (this.destroyed) return
    if (this.readableLength > this.#maxUnreadBytes) {
      const problem = `${this.readableLength} bytes of a stream wait for its reader`
      this.destroy(new Error(problem))
    } else this.push(`data: ${data}\n\n`)
  }
}
