/**
 * Long native calls: their progress reported now and then, and their end when a signal or the
 * caller asks for it.
 */

import { MoeppError } from '../errors.js'
import { type Control, fromNative } from './binding.js'

/** Milliseconds between two reports of progress, while native code works. */
const POLL_MS = 100

export interface Watched<T> {
  readonly signal?: AbortSignal | undefined
  /** An exception from it ends the call, which rejects with it. */
  readonly onProgress?: ((doneBytes: number) => void) | undefined
  /** Frees a result that came although the call had been ended. */
  readonly discard?: (result: T) => Promise<void>
}

/**
 * Runs a native call that takes a Control.
 * @throws what the call or `onProgress` throws; MoeppError ERR_ABORTED, with the signal's reason as
 *   cause, when it aborts
 */
export async function runWatched<T>(
  call: (control: Control) => Promise<T>,
  { signal, onProgress, discard }: Watched<T>,
): Promise<T> {
  const control: Control = new BigInt64Array(2)
  let failure: { error: unknown } | undefined
  const end = (error: unknown) => {
    failure ??= { error }
    control[1] = 1n
  }
  const abort = () =>
    end(new MoeppError('ERR_ABORTED', 'the call was aborted', { cause: signal?.reason }))
  const report = () => {
    try {
      onProgress?.(Number(control[0]))
    } catch (error) {
      end(error)
    }
  }
  if (signal?.aborted) abort()
  signal?.addEventListener('abort', abort, { once: true })
  const timer = setInterval(report, POLL_MS)
  try {
    const result = await call(control)
    if (!failure) report()
    if (failure) await discard?.(result)
    else return result
  } catch (error) {
    failure ??= { error: fromNative(error) }
  } finally {
    clearInterval(timer)
    signal?.removeEventListener('abort', abort)
  }
  throw failure.error
}
