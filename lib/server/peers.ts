/** Packages that a server needs for some of its options alone: optional peers of this one. */
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
      ? await peer('prom-client@15', 'the option metrics', () => import('./metrics/metrics.js'))
      : undefined,
    cors:
      corsOrigins.length > 0
        ? await peer('@fastify/cors@11', 'the option corsOrigins', () => import('@fastify/cors'))
        : undefined,
    tracing: await import('./tracing.js').catch(error => {
      if (isMissing(error, '@opentelemetry/api')) return undefined
      throw error
    }),
  }
}

async function peer<T>(name: string, use: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load()
  } catch (error) {
    if (!isMissing(error, name.replace(/@\d+$/, ''))) throw error
    throw new Error(`${use} needs a further package: npm install ${name}`, { cause: error })
  }
}

/** True if the error says that this very package is not installed. */
function isMissing(error: unknown, name: string): boolean {
  const { code, message } = error as NodeJS.ErrnoException
  return code === 'ERR_MODULE_NOT_FOUND' && message.includes(`'${name}'`)
}
