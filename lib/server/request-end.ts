/** The end of a request, however it comes. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

/** nginx's status of an answer that its client did not wait for. */
const CLIENT_CLOSED = 499

/**
 * Calls `ended` once for each request: when its answer is sent, or its connection is closed before.
 * fastify's hook onResponse knows nothing of the latter.
 */
export function onRequestEnd(
  app: FastifyInstance,
  ended: (request: FastifyRequest, reply: FastifyReply, status: number) => void,
): void {
  app.addHook('onRequest', async (request, reply) => {
    let isSent = false
    reply.raw.once('finish', () => {
      isSent = true
      ended(request, reply, reply.statusCode)
    })
    reply.raw.once('close', () => {
      if (!isSent) ended(request, reply, CLIENT_CLOSED)
    })
  })
}
