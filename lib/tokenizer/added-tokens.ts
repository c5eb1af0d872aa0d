/** Tokens that a tokenizer.json takes out of a text before it is encoded. */

import { classOf, NEWLINE, SPACE, WORD } from './character-class.js'
import type { AddedTokenJson } from './json-form.js'
import { libraryAddedToken } from './library.js'
import { LongestMatch } from './longest-match.js'
import type { Normalizer } from './normalize.js'
import { STEP, type Steps } from './steps.js'

/** A text, or the id of a token that was found in it. */
export type Part = string | number

/**
 * Splits a text at its added tokens, as the Rust library does, and gives up control. The splitter
 * of `@huggingface/tokenizers` splits a whole text at once. It knows no limits of words, and strips
 * by JavaScript's idea of space.
 */
export class AddedTokens {
  readonly isEmpty: boolean
  readonly #raw: TokenMatch
  readonly #normalized: TokenMatch

  constructor(tokens: readonly AddedTokenJson[], normalizer: Normalizer) {
    const raw: [string, AddedTokenJson][] = []
    const normalized: [string, AddedTokenJson][] = []
    for (const json of tokens) {
      const token = libraryAddedToken(json)
      if (token.normalized) {
        normalized.push([[...normalizer.normalize([token.content])].join(''), token])
      } else raw.push([token.content, token])
    }
    this.#raw = new TokenMatch(raw)
    this.#normalized = new TokenMatch(normalized)
    this.isEmpty = tokens.length === 0
  }

  /** True if some are looked for in normalised text. */
  get hasNormalized(): boolean {
    return this.#normalized.maxLength > 0
  }

  /** The most UTF-16 units of a text that one of them stands for, less what normalising takes. */
  get maxLength(): number {
    return Math.max(this.#raw.maxLength, this.#normalized.maxLength)
  }

  /** Tokens of `textIds` stay text. */
  splitRaw(text: string, textIds: ReadonlySet<number>): Steps<Part[]> {
    return this.#raw.split(text, textIds)
  }

  splitNormalized(text: string, textIds: ReadonlySet<number>): Steps<Part[]> {
    return this.#normalized.split(text, textIds)
  }
}

class TokenMatch {
  /** Infinity with tokens that take the space around them. */
  readonly maxLength: number
  readonly #tokens: ReadonlyMap<string, AddedTokenJson>
  readonly #contents: LongestMatch

  constructor(tokens: readonly [content: string, AddedTokenJson][]) {
    this.#tokens = new Map(tokens)
    this.#contents = new LongestMatch([...this.#tokens.keys()])
    const isStripping = tokens.some(([, { lstrip, rstrip }]) => lstrip || rstrip)
    this.maxLength = isStripping ? Number.POSITIVE_INFINITY : this.#contents.maxLength
  }

  /** The text in parts: the tokens, and what stands between them, less the space they take. */
  *split(text: string, textIds: ReadonlySet<number>): Steps<Part[]> {
    const parts: Part[] = []
    let start = 0
    let stripped = 0
    let steps = 0
    for (let at = 0; at < text.length && this.maxLength > 0; ) {
      if (++steps % STEP === 0) yield
      const found = this.#contents.at(text, at)
      if (found === undefined) {
        at++
        continue
      }
      const token = this.#tokens.get(found)!
      const end = at + found.length
      // One that stays text, or is a part of a word, is passed over as a whole.
      if (!textIds.has(token.id) && (!token.single_word || isWhole(text, at, end))) {
        const from = token.lstrip ? spaceStart(text, at, start) : at
        if (from > start) parts.push(text.slice(start, from))
        parts.push(token.id)
        // Tokens that are space themselves would look at the same space again and again.
        if (token.rstrip && end > stripped) stripped = spaceEnd(text, end)
        start = token.rstrip ? stripped : end
      }
      at = end
    }
    if (start < text.length) parts.push(text.slice(start))
    return parts
  }
}

function isWhole(text: string, start: number, end: number): boolean {
  // The second half of a pair tells nothing by itself.
  const low = /[\uDC00-\uDFFF]/.test(text[start - 1] ?? '') ? 2 : 1
  const isBehindWord = start > 0 && (classOf(text.codePointAt(start - low)!) & WORD) !== 0
  const isBeforeWord = end < text.length && (classOf(text.codePointAt(end)!) & WORD) !== 0
  return !isBehindWord && !isBeforeWord
}

/** The first place of the space in front of `at`, from `start` on. */
function spaceStart(text: string, at: number, start: number): number {
  let from = at
  while (from > start && isSpace(text, from - 1)) from--
  return Math.max(from, start)
}

function spaceEnd(text: string, at: number): number {
  let end = at
  while (end < text.length && isSpace(text, end)) end++
  return end
}

/** Each space is one UTF-16 unit. */
function isSpace(text: string, at: number): boolean {
  return (classOf(text.charCodeAt(at)) & (SPACE | NEWLINE)) !== 0
}
