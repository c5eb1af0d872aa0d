/**
 * Guesses the tokens that follow: those that followed an earlier place of prompt and text with the
 * same last tokens. An answer that quotes its prompt is guessed well.
 *
 * Sources: Saxena, Prompt Lookup Decoding, 2023; Hugging Face's prompt_lookup_num_tokens.
 */
import { isObject, show } from '../base/json.js'
import { checkAll, integer } from '../base/option-checks.js'
import { hashOfLast } from './ngrams.js'

/**
 * The option `speculate`: guesses of the next tokens.
 *
 * @example
 * ```ts
 * import { loadModel, type Speculation } from 'moepp'
 *
 * const speculate: Speculation = { ngram: 2, tokens: 12 }
 * const model = await loadModel('npm:moepp-books-7m')
 * const { usage } = await model.generate('She said that she said', { speculate })
 * console.log(`${usage.acceptedTokens} of ${usage.draftedTokens} guesses were right`)
 * ```
 */
export interface Speculation {
  /** Last tokens that an earlier place must share, 1 to 32. Default 3. */
  ngram?: number
  /** Most tokens to guess at once, 1 to 64. Default 8. */
  tokens?: number
}

export type ResolvedSpeculation = Readonly<Required<Speculation>>

const CHECKS = {
  ngram: (value: unknown) => integer(1, 32)(value, 'speculate.ngram'),
  tokens: (value: unknown) => integer(1, 64)(value, 'speculate.tokens'),
}

/** Checks the option `speculate`. */
export function speculation(value: unknown, name: string): ResolvedSpeculation | undefined {
  if (value === false) return undefined
  if (value !== true && !isObject(value))
    throw new TypeError(`${name}: expected true, false or an object, got ${show(value)}`)
  const { ngram = 3, tokens = 8 } = checkAll(value === true ? {} : value, CHECKS, undefined)
  return Object.freeze({ ngram, tokens })
}

/** A wrong guess costs time. So each pause is twice the one before, up to so many tokens. */
const LONGEST_PAUSE = 32

export class PromptLookup {
  readonly #options: ResolvedSpeculation
  readonly #tokens: number[] = []
  /**
   * The place after the last occurrence of `ngram` tokens, by their hash; 0 is none. Of two n-grams
   * with one hash the later one stays. A Map would take ten times as long for a prompt.
   */
  readonly #ends: Int32Array
  /** The place whose token is expected next. */
  #source: number | undefined
  /** The last draft, and how many of its guesses came. */
  #guesses: readonly number[] = []
  #right = 0
  /** Guesses of the next draft. */
  #count: number
  /** Tokens without a draft, after which it is tried again at `#resumesAt`. */
  #pause = 0
  #resumesAt = 0

  /** @param mostTokens tokens that prompt and text will have at most */
  constructor(options: ResolvedSpeculation, promptIds: Iterable<number>, mostTokens: number) {
    this.#options = options
    this.#ends = new Int32Array(2 ** Math.ceil(Math.log2(2 * mostTokens)))
    this.#count = options.tokens
    for (const id of promptIds) this.append(id)
  }

  /** Adds the next token of prompt or text. */
  append(token: number): void {
    this.#compare(token)
    const continues = this.#source !== undefined && this.#tokens[this.#source] === token
    this.#tokens.push(token)
    if (this.#tokens.length < this.#options.ngram) return
    const hash = this.#hash()
    // A place that went right so far shares the most tokens.
    this.#source = continues ? this.#source! + 1 : this.#ifSame(this.#ends[hash]!)
    this.#ends[hash] = this.#tokens.length
  }

  /** At most `most` guesses of the next tokens. */
  draft(most: number): readonly number[] {
    const place = this.#source
    const { length } = this.#tokens
    if (place === undefined || length < this.#resumesAt) return []
    const count = Math.min(most, this.#count)
    const guesses: number[] = []
    // The place may be so near that what follows it is a guess, too.
    for (let i = place; guesses.length < count; i++)
      guesses.push(i < length ? this.#tokens[i]! : guesses[i - length]!)
    this.#guesses = guesses
    this.#right = 0
    return guesses
  }

  /** Learns from a token how much to guess. */
  #compare(token: number): void {
    if (this.#guesses.length === 0) return
    const isRight = this.#guesses[this.#right] === token
    if (isRight && ++this.#right < this.#guesses.length) return
    this.#count = isRight
      ? Math.min(this.#options.tokens, 2 * this.#count)
      : Math.max(1, this.#right)
    this.#pause = this.#right > 0 ? 0 : Math.min(LONGEST_PAUSE, 2 * this.#pause || 1)
    this.#resumesAt = this.#tokens.length + 1 + this.#pause
    this.#guesses = []
  }

  /** Of the last tokens, as an index of `#ends`. */
  #hash(): number {
    const hash = hashOfLast(this.#tokens, this.#options.ngram)
    return (hash ^ (hash >>> 15)) & (this.#ends.length - 1)
  }

  /** The place, if the tokens before it are the last ones. */
  #ifSame(end: number): number | undefined {
    if (end === 0) return undefined
    for (let back = 1; back <= this.#options.ngram; back++)
      if (this.#tokens[end - back] !== this.#tokens[this.#tokens.length - back]) return undefined
    return end
  }
}
