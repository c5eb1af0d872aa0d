/** Packages that a server needs for some of its options alone: optional peers of this one. */
import { importPeer, isMissing } from '../base/peer.js'
import type { ResolvedServeOptions } from './options.js'

export type Peers = Awaited<ReturnType<typeof importPeers>>

/**
 * Imports what the options need.
 * @throws Error with the line that installs it, if a package is missing
 */
export async function importPeers({
  metrics,
  corsOrigins,
}: Pick<ResolvedServeOptions, 'metrics' | 'corsOrigins'>) {
  return {
    metrics: metrics
      ? await importPeer(
          'prom-client@15',
          'the option metrics',
          () => import('./metrics/metrics.js'),
        )
      : undefined,
    cors:
      corsOrigins.length > 0
        ? await importPeer(
            '@fastify/cors@11',
            'the option corsOrigins',
            () => import('@fastify/cors'),
          )
        : undefined,
    tracing: await import('./tracing.js').catch(error => {
      if (isMissing(error, '@opentelemetry/api')) return undefined
      throw error
    }),
  }
}
