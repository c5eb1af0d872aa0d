/** A caller's function that changes logits, and what keeps its mistakes in its own call. */
import { show } from '../base/json.js'
import { findLargest, logitsFault } from './logprobs.js'

/**
 * Changes the logits of the next token in place.
 *
 * @param logits [vocabSize] one logit for each token, after penalties and bias, before temperature,
 *   topK, topP, minP and typicalP. -Infinity bans a token. The array is valid during the call only:
 *   later it holds other values, and what is written to it then has no effect.
 * @param tokenIds the prompt and what has been generated so far, as a copy
 *
 * @example
 * ```ts
 * import { loadModel, type LogitsHook } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const digits = [...'0123456789'].map(digit => model.tokenizer.tokenToId(digit))
 * const withoutDigits: LogitsHook = logits => {
 *   for (const id of digits) if (id !== undefined) logits[id] = -Infinity
 * }
 * console.log((await model.generate('The year', { logits: withoutDigits })).text)
 * ```
 */
export type LogitsHook = (logits: Float32Array, tokenIds: readonly number[]) => void

/**
 * Calls a hook for one sequence.
 *
 * The hook gets a view of memory that nothing else uses, and a new view each time. So it can harm
 * its own sequence alone, whatever it does to the view or its buffer.
 */
export class HookedLogits {
  readonly #hook: LogitsHook
  readonly #tokenIds: number[]
  /** The logits as we see them; the hook has a view of the same memory. */
  #row = new Float32Array(0)

  constructor(hook: LogitsHook, promptIds: ArrayLike<number>) {
    this.#hook = hook
    this.#tokenIds = Array.from(promptIds)
  }

  /** Records a generated token. */
  append(tokenId: number): void {
    this.#tokenIds.push(tokenId)
  }

  /**
   * The logits as the hook leaves them, valid until the next call.
   * @param logits [V], left as they are
   * @throws the hook's own exception; TypeError or RangeError for a forbidden change
   */
  apply(logits: Float32Array): Float32Array {
    if (this.#row.length !== logits.length) this.#row = new Float32Array(logits.length)
    const row = this.#row
    row.set(logits)
    const returned: unknown = this.#hook(new Float32Array(row.buffer), this.#tokenIds.slice())
    if (isThenable(returned)) {
      // Its own failure must not end the process as an unhandled one.
      Promise.resolve(returned).catch(() => {})
      throw new TypeError('logits: expected a synchronous function, got one that returns a promise')
    }
    if (row.length !== logits.length) {
      throw new TypeError('logits: the hook detached its array (transferred its buffer)')
    }
    const at = findLargest(row)
    const fault = logitsFault(row[at] ?? -Infinity, at, row.length)
    if (fault !== undefined) {
      throw new RangeError(
        `logits: the hook left ${fault}, expected finite numbers, or -Infinity to ban a token`,
      )
    }
    return row
  }
}

function isThenable(value: unknown): boolean {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function'
}

/** The option `logits`, checked. */
export function logitsHook(value: unknown, name: string): LogitsHook {
  if (typeof value !== 'function')
    throw new TypeError(`${name}: expected a function, got ${show(value)}`)
  return value as LogitsHook
}
