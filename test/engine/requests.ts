/** Sequences for tests of the engine: greedy ones that record everything they are given. */
import { Engine } from '../../lib/engine/engine.js'
import type { SequenceReport, SequenceRequest, Submission } from '../../lib/engine/sequence.js'
import type { TopLogits } from '../../lib/sampling/sampler.js'
import { type FakeOptions, FakeRunner } from './fake-runner.js'

export interface Wish {
  readonly tokens: readonly number[]
  readonly newTokens: number
  /** Default: the last position of the prompt. */
  readonly logitsFrom?: number
  readonly capture?: readonly string[]
  readonly capturesCached?: boolean
  /** Take the largest logits where this says that they suffice. */
  readonly takesTop?: (position: number) => boolean
  /** Guesses of the new tokens, and the most of them at once. Default: none. */
  readonly guesses?: { readonly tokens: readonly number[]; readonly most: number }
  /** Not ready for the next token before this resolves; called after each. */
  readonly waits?: (count: number) => Promise<void> | undefined
  /** Called after each new token. */
  readonly onToken?: (count: number) => void
}

export interface Got {
  readonly tokenIds: number[]
  /** Logits by position, as text: bitwise. */
  readonly rows: Map<number, string>
  readonly captured: Record<string, number[]>
}

export function request(wish: Wish): { request: SequenceRequest; got: Got } {
  const got: Got = { tokenIds: [], rows: new Map(), captured: {} }
  const { tokens, newTokens, capture = [], logitsFrom = tokens.length - 1 } = wish
  const { takesTop, guesses, capturesCached = true } = wish
  const consumer = {
    pending: undefined as Promise<void> | undefined,
    draft(most: number) {
      const from = got.tokenIds.length
      const to = Math.min(from + Math.min(most, guesses?.most ?? 0), newTokens - 1)
      return guesses?.tokens.slice(from, to) ?? []
    },
    suffices: () => takesTop?.(tokens.length - 1 + got.tokenIds.length) ?? false,
    next(position: number, logits: Float32Array | TopLogits) {
      if (got.rows.has(position)) throw new Error(`the logits of position ${position} came twice`)
      const isWhole = logits instanceof Float32Array
      got.rows.set(position, isWhole ? logits.join() : `largest ${logits.ids.join()}`)
      if (position < tokens.length - 1) return undefined
      got.tokenIds.push(isWhole ? logits.indexOf(Math.max(...logits)) : logits.ids[0]!)
      wish.onToken?.(got.tokenIds.length)
      const wait = wish.waits?.(got.tokenIds.length)
      consumer.pending = wait
      const ready = () => {
        if (consumer.pending === wait) consumer.pending = undefined
      }
      wait?.then(ready, () => {})
      return got.tokenIds.length < newTokens ? got.tokenIds.at(-1) : undefined
    },
    captured(name: string, rows: Int32Array | Float32Array) {
      got.captured[name] = [...(got.captured[name] ?? []), ...rows]
    },
  }
  const top = takesTop && ({ top: 'logits' } as const)
  return { request: { tokens, logitsFrom, capture, capturesCached, consumer, ...top }, got }
}

export function submit(engine: Engine, wish: Wish): Submission & { got: Got } {
  const { request: asked, got } = request(wish)
  return { ...engine.submit(asked), got }
}

/** A wish's results with nothing else around, room for everything and no chunks. */
export async function alone(
  wish: Wish,
  options: FakeOptions = {},
): Promise<{ got: Got; report: SequenceReport }> {
  const roomy = { ...options, pages: 64, maxStepTokens: 1000, contextLength: 1000, pageSize: 64 }
  delete roomy.delay
  delete roomy.maxLogitRows
  const engine = new Engine(new FakeRunner(roomy))
  const { guesses: _, ...plain } = wish
  const { done, got } = submit(engine, { ...plain, onToken: () => {} })
  const report = await done
  await engine.close()
  return { got, report }
}

/** The integers from one to another, which is left out. */
export function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i)
}
