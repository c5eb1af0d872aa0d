/** A generation as an async iterable of chunks. */
import type { Job } from './job.js'
import type { GenerateChunk, GenerateResult } from './results.js'

type Start<Chunk, Result> = (onChunk: (chunk: Chunk) => void) => Job<Result>

interface Reader<Chunk> {
  resolve(result: IteratorResult<Chunk, undefined>): void
  reject(error: unknown): void
}

/**
 * The chunks of one text, to be read once, as `Model.stream` and `Model.streamChat` return them.
 *
 * The work starts with the first read. It does not wait for a slow reader, and ends when the reader
 * leaves the loop. An abort ends the loop.
 *
 * @example
 * ```ts
 * import { loadModel } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const stream = model.stream('The old man', { maxNewTokens: 40 })
 * for await (const chunk of stream) process.stdout.write(chunk.text)
 * const { finishReason, timings } = await stream.result
 * console.log(finishReason, timings.decodeTokensPerSecond)
 * ```
 */
export class GenerationStream<Chunk = GenerateChunk, Result = GenerateResult>
  implements AsyncIterableIterator<Chunk, undefined, undefined>
{
  readonly #start: Start<Chunk, Result>
  readonly #signal: AbortSignal | undefined
  #job: Job<Result> | undefined
  readonly #chunks: Chunk[] = []
  readonly #readers: Reader<Chunk>[] = []
  #hasEnded = false
  /** Given to one reader, after the chunks. */
  #error: { readonly value: unknown } | undefined

  constructor(start: Start<Chunk, Result>, signal: AbortSignal | undefined) {
    this.#start = start
    this.#signal = signal
  }

  /**
   * The whole result, with usage and timings, once the work has ended. Reading this property starts
   * the work too. After an abort or an early end of the loop its finishReason is 'abort'.
   */
  get result(): Promise<Result> {
    return this.#started().done
  }

  /**
   * The next chunk. `for await` calls it.
   *
   * @example
   * ```ts
   * import { loadModel } from 'moepp'
   *
   * const model = await loadModel('npm:moepp-books-7m')
   * const stream = model.stream('The old man')
   * const { value, done } = await stream.next()
   * if (!done) console.log(value.text)
   * await stream.return()
   * ```
   */
  next(): Promise<IteratorResult<Chunk, undefined>> {
    if (!this.#hasEnded) this.#started()
    return new Promise((resolve, reject) => {
      this.#readers.push({ resolve, reject })
      this.#serve()
    })
  }

  /**
   * Ends the work, and drops the chunks that were not read. `for await` calls it when the loop is
   * left early.
   *
   * @example
   * ```ts
   * import { loadModel } from 'moepp'
   *
   * const model = await loadModel('npm:moepp-books-7m')
   * const stream = model.stream('The old man')
   * setTimeout(() => stream.return(), 1000)
   * for await (const { text } of stream) process.stdout.write(text)
   * ```
   */
  return(): Promise<IteratorResult<Chunk, undefined>> {
    this.#leave()
    return Promise.resolve({ done: true, value: undefined })
  }

  /** The stream itself: it is read once. */
  [Symbol.asyncIterator](): this {
    return this
  }

  /** As `return`: ends the work at the end of a block with `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#leave()
  }

  #started(): Job<Result> {
    if (this.#job) return this.#job
    const leave = () => this.#leave()
    this.#job = this.#begin()
    if (this.#hasEnded) this.#job.cancel()
    this.#signal?.addEventListener('abort', leave, { once: true })
    const end = (error?: { value: unknown }) => {
      this.#signal?.removeEventListener('abort', leave)
      if (!this.#hasEnded) this.#error = error
      this.#hasEnded = true
      this.#serve()
    }
    this.#job.done.then(
      () => end(),
      error => end({ value: error }),
    )
    return this.#job
  }

  #begin(): Job<Result> {
    try {
      return this.#start(chunk => {
        this.#chunks.push(chunk)
        this.#serve()
      })
    } catch (error) {
      return { done: Promise.reject(error), cancel: () => {} }
    }
  }

  /** Ends the loop and the work. Chunks that were not read are dropped. */
  #leave(): void {
    this.#hasEnded = true
    this.#chunks.length = 0
    this.#job?.cancel()
    this.#serve()
  }

  #serve(): void {
    while (this.#readers.length > 0) {
      const chunk = this.#chunks.shift()
      if (chunk === undefined && !this.#hasEnded) return
      const reader = this.#readers.shift()!
      const error = this.#error
      if (chunk !== undefined) reader.resolve({ done: false, value: chunk })
      else if (error) {
        this.#error = undefined
        reader.reject(error.value)
      } else reader.resolve({ done: true, value: undefined })
    }
  }
}
