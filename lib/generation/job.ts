/** Work that has been handed to the engine, with a result to come. */
import { MoeppError } from '../errors.js'

export interface Job<T> {
  readonly done: Promise<T>
  cancel(): void
}

/**
 * The results of all jobs, in order. The signal cancels them all, and so does the failure of one.
 */
export async function settleAll<T>(
  jobs: readonly Job<T>[],
  signal: AbortSignal | undefined,
): Promise<T[]> {
  const cancelAll = () => {
    for (const job of jobs) job.cancel()
  }
  signal?.addEventListener('abort', cancelAll, { once: true })
  try {
    return await Promise.all(jobs.map(job => job.done))
  } finally {
    signal?.removeEventListener('abort', cancelAll)
    cancelAll()
  }
}

export function aborted(signal: AbortSignal | undefined): MoeppError {
  return new MoeppError('ERR_ABORTED', 'the call was aborted', { cause: signal?.reason })
}
