/** The end of a request, however it comes. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

/** nginx's status of an answer that its client did not wait for. */
const CLIENT_CLOSED = 499

export type RequestEnd = (request: FastifyRequest, reply: FastifyReply, status: number) => void

/**
 * Calls all of them once for each request: when its answer is sent, or its connection is closed
 * before. fastify's hook onResponse knows nothing of the latter.
 */
export function onRequestEnd(
  app: FastifyInstance,
  ends: readonly (RequestEnd | undefined)[],
): void {
  app.addHook('onRequest', async (request, reply) => {
    let isSent = false
    const end = (status: number) => {
      for (const each of ends) each?.(request, reply, status)
    }
    reply.raw.once('finish', () => {
      isSent = true
      end(reply.statusCode)
    })
    reply.raw.once('close', () => {
      if (!isSent) end(CLIENT_CLOSED)
    })
  })
}
