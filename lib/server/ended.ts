/** The end of each request, for logs, metrics and traces. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

/** The status of a client that leaves before its answer ends: nginx's number for it. */
const CLIENT_CLOSED = 499

/** Calls back once a request: its answer has ended, or its connection before that. */
export function onRequestEnd(
  app: FastifyInstance,
  ended: (request: FastifyRequest, status: number, reply: FastifyReply) => void,
): void {
  // fastify's onResponse does not hear of connections that close.
  app.addHook('onRequest', async (request, reply) => {
    const { raw } = reply
    raw.once('close', () => {
      ended(request, raw.writableEnded ? reply.statusCode : CLIENT_CLOSED, reply)
    })
  })
}
