/** Runs the texts of a request together: all of them end well, or the request fails. */
import { setMaxListeners } from 'node:events'
import type { GenerationStream } from '../generation/stream.js'

/**
 * The results of `count` texts, in order. The first failure ends the others.
 * @throws the first failure, or the reason of `signal`
 */
export async function allTexts<T>(
  count: number,
  signal: AbortSignal,
  run: (i: number, signal: AbortSignal) => Promise<T>,
): Promise<T[]> {
  const failure = new AbortController()
  const ends = AbortSignal.any([signal, failure.signal])
  // Each text listens.
  setMaxListeners(0, ends)
  const runs = Array.from({ length: count }, async (_, i) => {
    try {
      return await run(i, ends)
    } catch (error) {
      failure.abort(error)
      throw error
    }
  })
  await Promise.allSettled(runs)
  ends.throwIfAborted()
  return Promise.all(runs)
}

/** Resolves when `turn` does. @throws the signal's reason */
export async function inTurn(turn: Promise<void>, signal: AbortSignal): Promise<void> {
  const done = new AbortController()
  const aborted = new Promise<void>(resolve => {
    signal.addEventListener('abort', () => resolve(), { once: true, signal: done.signal })
  })
  if (!signal.aborted) await Promise.race([turn, aborted])
  done.abort()
  signal.throwIfAborted()
}

/**
 * Reads a text to its end.
 * @throws the signal's reason; what the stream throws
 */
export async function readText<Chunk, Result>(
  stream: GenerationStream<Chunk, Result>,
  signal: AbortSignal,
  onChunk: (chunk: Chunk) => void,
): Promise<Result> {
  try {
    for await (const chunk of stream) onChunk(chunk)
    const result = await stream.result
    signal.throwIfAborted()
    return result
  } catch (error) {
    // An abort ends calls of the library in ways of their own.
    throw signal.aborted ? signal.reason : error
  }
}
