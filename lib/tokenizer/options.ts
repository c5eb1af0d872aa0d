/** The options of a tokenizer's calls, and their checks. */
import { boolean, integer, signal } from '../base/option-checks.js'

/**
 * Options of `Tokenizer.encode`.
 *
 * @example
 * ```ts
 * import { type EncodeOptions, loadTokenizer } from 'moepp'
 *
 * const tokenizer = await loadTokenizer('models/books-7m')
 * const options: EncodeOptions = { addSpecialTokens: false }
 * console.log(tokenizer.encode('The old man', options))
 * ```
 */
export interface EncodeOptions {
  /**
   * Put the tokens around the text that the checkpoint asks for (add_bos_token, add_eos_token).
   * Default true.
   */
  readonly addSpecialTokens?: boolean
  /**
   * True: special tokens in the text, `<|im_end|>` say, are ordinary characters. False: the
   * byte-level form takes them for the tokens, as upstream does. Other forms never do. Tokens that
   * are not special, such as `<think>`, are found in either case. Default false.
   */
  readonly splitSpecialTokens?: boolean
}

/**
 * Options of `Tokenizer.encodeAsync`.
 *
 * @example
 * ```ts
 * import { type EncodeAsyncOptions, loadTokenizer } from 'moepp'
 *
 * const tokenizer = await loadTokenizer('models/books-7m')
 * const options: EncodeAsyncOptions = { maxTokens: 1000, signal: AbortSignal.timeout(1000) }
 * const ids = await tokenizer.encodeAsync('The old man. '.repeat(10_000), options)
 * console.log(ids.length > 1000 ? 'more than 1000 tokens' : ids.length)
 * ```
 */
export interface EncodeAsyncOptions extends EncodeOptions {
  /** Ends the work. */
  readonly signal?: AbortSignal
  /** Ends the work once there are more ids: the first `maxTokens` + 1 are the result then. */
  readonly maxTokens?: number
}

/**
 * Options of `Tokenizer.decode`.
 *
 * @example
 * ```ts
 * import { type DecodeOptions, loadTokenizer } from 'moepp'
 *
 * const tokenizer = await loadTokenizer('models/books-7m')
 * const options: DecodeOptions = { skipSpecialTokens: false }
 * console.log(tokenizer.decode(tokenizer.encode('The old man'), options))
 * ```
 */
export interface DecodeOptions {
  /** True: special tokens give no text. Default true. */
  readonly skipSpecialTokens?: boolean
}

export const ENCODE_CHECKS = { addSpecialTokens: boolean, splitSpecialTokens: boolean }
export const ENCODE_ASYNC_CHECKS = { ...ENCODE_CHECKS, signal, maxTokens: integer(0) }
export const DECODE_CHECKS = { skipSpecialTokens: boolean }
export const STREAM_CHECKS = { ...DECODE_CHECKS, prompt: checkIds }

export function checkIds(ids: unknown, name: string): void {
  if (!Array.isArray(ids) && !(ids instanceof Int32Array) && !(ids instanceof Uint32Array))
    throw new TypeError(`${name}: expected an array of token ids, got ${typeof ids}`)
  const at = Array.prototype.findIndex.call(ids, (id: number) => !Number.isInteger(id) || id < 0)
  if (at !== -1) throw new RangeError(`${name}[${at}]: expected a token id, got ${String(ids[at])}`)
}
