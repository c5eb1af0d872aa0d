/** Health: the server lives. Readiness: it takes requests now. */
import type { FastifyInstance } from 'fastify'
import type { ServerContext } from '../context.js'

export function healthRoutes(app: FastifyInstance, context: ServerContext): void {
  app.get('/health', () => ({ status: 'ok' }))
  app.get('/ready', (_request, reply) => {
    const reason = unready(context)
    reply.code(reason ? 503 : 200)
    return reason ? { status: 'unready', reason } : { status: 'ready' }
  })
}

function unready({ admission, lifecycle }: ServerContext): string | undefined {
  if (lifecycle.isDraining) return 'draining'
  return admission.isFull ? 'queue full' : undefined
}
