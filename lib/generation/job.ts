/** Work that has been handed to the engine, with a result to come. */
import { once } from 'node:events'
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

/**
 * A job that is not known yet: `begin` finds it. Its signal aborts with `signal`, if that has
 * aborted by now, and when the job is cancelled.
 */
export function deferred<T>(
  signal: AbortSignal | undefined,
  begin: (signal: AbortSignal) => Promise<Job<T>>,
): Job<T> {
  const controller = new AbortController()
  if (signal?.aborted) controller.abort(signal.reason)
  let job: Job<T> | undefined
  const run = async () => {
    job = await begin(controller.signal)
    if (controller.signal.aborted) job.cancel()
    return job.done
  }
  return {
    done: run(),
    cancel: () => {
      controller.abort()
      job?.cancel()
    },
  }
}

/** The result of a job that the signal cancels. */
export async function settle<T>(job: Job<T>, signal: AbortSignal | undefined): Promise<T> {
  const [result] = await settleAll([job], signal)
  return result!
}

/** @throws MoeppError ERR_ABORTED */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw aborted(signal)
}

export function aborted(signal: AbortSignal | undefined): MoeppError {
  return new MoeppError('ERR_ABORTED', 'the call was aborted', { cause: signal?.reason })
}

/** undefined if the signal aborts first. */
export async function unlessAborted<T>(
  work: Promise<T>,
  signal: AbortSignal | undefined,
): Promise<T | undefined> {
  if (!signal) return work
  const done = new AbortController()
  const aborted = once(signal, 'abort', { signal: done.signal }).then(
    () => undefined,
    () => undefined,
  )
  work.catch(() => {})
  try {
    return await Promise.race([work, signal.aborted ? undefined : aborted])
  } finally {
    done.abort()
  }
}
