/** Work of unknown length that gives up control often. */
import { TimeSlice } from '../base/time-slice.js'
import { MoeppError } from '../errors.js'
import type { EncodeAsyncOptions } from './options.js'

/**
 * A generator that yields each millisecond or sooner, and returns the result. The caller runs it in
 * one go, or lets other events run between.
 */
export type Steps<T = void> = Generator<undefined, T>

/** Characters or merges between two yields: far less than a millisecond of work. */
export const STEP = 1024

/** Takes steps that append to `ids`, and lets other events run in between. */
export async function finish(
  steps: Steps,
  ids: number[],
  {
    signal,
    maxTokens = Number.POSITIVE_INFINITY,
  }: Pick<EncodeAsyncOptions, 'signal' | 'maxTokens'>,
): Promise<number[]> {
  const slice = new TimeSlice()
  for (const _ of steps) {
    if (signal?.aborted) break
    if (ids.length > maxTokens) break
    await slice.pauseIfOver()
  }
  if (signal?.aborted) {
    throw new MoeppError('ERR_ABORTED', 'encoding was aborted', { cause: signal.reason })
  }
  return ids.length > maxTokens ? ids.slice(0, maxTokens + 1) : ids
}
