/** The page that Prometheus scrapes. */
import type { FastifyInstance } from 'fastify'
import { keyCheck } from '../authorization.js'
import type { Metrics } from '../metrics/metrics.js'
import type { ResolvedServeOptions } from '../options.js'

/** It needs a key, if there are any, and answers while the server drains. */
export function metricsRoutes(
  app: FastifyInstance,
  metrics: Metrics,
  { apiKeys }: ResolvedServeOptions,
): void {
  const checkKey = keyCheck(apiKeys)
  app.get('/metrics', { onRequest: async request => checkKey(request) }, (_request, reply) => {
    reply.type(metrics.contentType)
    return metrics.scrape()
  })
}
