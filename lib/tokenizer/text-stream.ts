/**
 * Decoding, token by token. This is the only decoder: the whole text of some ids is a stream's
 * chunks, joined. So streaming and decoding cannot differ.
 *
 * It decodes as SentencePiece does, or as the byte-level form of the Rust library. The decoders of
 * @huggingface/tokenizers need all ids at once, and drop a byte order mark.
 */

import type { PieceTable } from './piece-table.js'

/**
 * Options of `Tokenizer.stream`.
 *
 * @example
 * ```ts
 * import { loadTokenizer, type TextStreamOptions } from 'moepp'
 *
 * const tokenizer = await loadTokenizer('models/books-7m')
 * const options: TextStreamOptions = { prompt: tokenizer.encode('The old') }
 * const stream = tokenizer.stream(options)
 * for (const id of tokenizer.encode(' man', { addSpecialTokens: false }))
 *   process.stdout.write(stream.push(id))
 * ```
 */
export interface TextStreamOptions {
  /**
   * Ids that were there before. The stream then gives the text that continues theirs: decode(prompt
   * and new ids) less decode(prompt). So the first piece keeps its leading space, unless the prompt
   * has no visible text at all. If the prompt ends inside of a character whose last bytes are
   * pushed, the stream gives the whole character.
   */
  readonly prompt?: readonly number[]
  /** True: special tokens give no text. Default true. */
  readonly skipSpecialTokens?: boolean
}

/**
 * The text of tokens that come one by one, in whole characters.
 *
 * @example
 * ```ts
 * import { loadTokenizer } from 'moepp'
 *
 * const tokenizer = await loadTokenizer('models/books-7m')
 * const stream = tokenizer.stream()
 * let text = ''
 * for (const id of tokenizer.encode('The old man')) text += stream.push(id)
 * console.log(text + stream.flush())
 * ```
 */
export class TextStream {
  readonly #table: PieceTable
  readonly #skipSpecialTokens: boolean
  /** Nothing but skipped special tokens so far. */
  #isAtStart = true
  /** Bytes that begin a character, at most 3. */
  #held: number[] = []
  /** The number of held bytes that are the prompt's. */
  #heldOfPrompt = 0

  constructor(
    table: PieceTable,
    { prompt = [], skipSpecialTokens = true }: TextStreamOptions = {},
  ) {
    this.#table = table
    this.#skipSpecialTokens = skipSpecialTokens
    for (const id of prompt) this.push(id)
    this.#heldOfPrompt = this.#held.length
  }

  /** @internal True if the first piece to come loses its space. */
  get dropsSpace(): boolean {
    return this.#isAtStart && this.#table.dropsFirstSpace
  }

  /**
   * The text that is certain after this token: whole characters. An id without a piece gives none.
   *
   * @example
   * ```ts
   * import { loadTokenizer } from 'moepp'
   *
   * const tokenizer = await loadTokenizer('models/books-7m')
   * console.log(tokenizer.stream().push(tokenizer.encode('man')[1] ?? 0))
   * ```
   */
  push(id: number): string {
    const { texts, bytes, prefixed, special, dropsFirstSpace, isByteLevel } = this.#table
    const text = texts[id]
    if (text === undefined || (this.#skipSpecialTokens && special.has(id)))
      return isByteLevel ? '' : this.flush()
    const isFirst = this.#isAtStart
    this.#isAtStart = false
    const listed = bytes.get(id)
    if (listed) return Array.from(listed, byte => this.#pushByte(byte)).join('')
    const before = this.flush()
    return before + (isFirst && dropsFirstSpace && prefixed[id] ? text.slice(1) : text)
  }

  /**
   * The rest at the end: U+FFFD for a character that was never completed. Byte-level BPE has one
   * for all of its bytes, SentencePiece one for each.
   *
   * @example
   * ```ts
   * import { loadTokenizer } from 'moepp'
   *
   * const tokenizer = await loadTokenizer('models/books-7m')
   * const stream = tokenizer.stream()
   * stream.push(tokenizer.tokenToId('<0xC3>') ?? 0)
   * console.log(stream.flush())
   * ```
   */
  flush(): string {
    if (this.#held.length === 0) return ''
    return this.#replaced(this.#held.length)
  }

  /** Text for the first `count` of the held bytes, less the part that the prompt has shown. */
  #replaced(count: number): string {
    const shown = Math.min(this.#heldOfPrompt, count)
    this.#held.splice(0, count)
    this.#heldOfPrompt -= shown
    if (!this.#table.isByteLevel) return '\uFFFD'.repeat(count - shown)
    return shown > 0 ? '' : '\uFFFD'
  }

  #pushByte(byte: number): string {
    this.#held.push(byte)
    let text = ''
    while (this.#held.length > 0) {
      const length = characterLength(this.#held)
      if (length === 0) break
      if (length > 0) {
        text += UTF8.decode(Uint8Array.from(this.#held.splice(0, length)))
        this.#heldOfPrompt = Math.max(0, this.#heldOfPrompt - length)
      } else {
        // All but the last byte began a character.
        const isPart = this.#table.isByteLevel && this.#held.length > 1
        text += this.#replaced(isPart ? this.#held.length - 1 : 1)
      }
    }
    return text
  }
}

const UTF8 = new TextDecoder('utf-8', { ignoreBOM: true })

/**
 * Length of the character that the bytes begin with; 0 if it is not complete, -1 if no byte could
 * complete it.
 */
function characterLength(bytes: readonly number[]): number {
  const first = bytes[0]!
  if (first < 0x80) return 1
  if (first < 0xc2 || first > 0xf4) return -1
  const length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4
  for (let i = 1; i < Math.min(length, bytes.length); i++) {
    // No overlong forms, no surrogates, nothing beyond U+10FFFF: these bound the second byte.
    const low = i > 1 ? 0x80 : first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80
    const high = i > 1 ? 0xbf : first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf
    if (bytes[i]! < low || bytes[i]! > high) return -1
  }
  return bytes.length < length ? 0 : length
}
