/** Tokens that a tokenizer.json takes out of a text before it is encoded. */

import { libraryAddedToken } from './library.js'
import { LongestMatch } from './longest-match.js'
import type { Normalizer } from './normalize.js'
import { STEP, type Steps } from './steps.js'
import type { AddedTokenJson } from './tokenizer-json.js'

/**
 * The splitter of @huggingface/tokenizers is a private member that splits a whole text at once. So
 * the loop is here, and gives up control.
 */
export class AddedTokens {
  /** By content, and by normalised content. */
  readonly #tokens = new Map<string, AddedTokenJson>()
  readonly #raw: LongestMatch
  readonly #normalized: LongestMatch

  constructor(tokens: readonly AddedTokenJson[], normalizer: Normalizer) {
    const raw: string[] = []
    const normalized: string[] = []
    for (const json of tokens) {
      const token = libraryAddedToken(json)
      const { content } = token
      this.#tokens.set(content, token)
      if (token.normalized && !normalizer.isEmpty) {
        const changed = [...normalizer.normalize([content])].join('')
        this.#tokens.set(changed, token)
        normalized.push(changed)
      } else raw.push(content)
    }
    this.#raw = new LongestMatch(raw)
    this.#normalized = new LongestMatch(normalized)
  }

  get isEmpty(): boolean {
    return this.#tokens.size === 0
  }

  /** True if some are looked for in normalised text. */
  get hasNormalized(): boolean {
    return this.#normalized.maxLength > 0
  }

  /** The most UTF-16 units of a text that one of them stands for. */
  get maxLength(): number {
    const isTrimming = [...this.#tokens.values()].some(({ lstrip, rstrip }) => lstrip || rstrip)
    return isTrimming
      ? Number.POSITIVE_INFINITY
      : Math.max(this.#raw.maxLength, this.#normalized.maxLength)
  }

  /** The id, if the whole text is one of them. */
  idOf(text: string): number | undefined {
    return this.#tokens.get(text)?.id
  }

  splitRaw(text: string): Steps<string[]> {
    return this.#split(text, this.#raw)
  }

  splitNormalized(text: string): Steps<string[]> {
    return this.#split(text, this.#normalized)
  }

  /** The text in parts: the tokens, and what stands between them, less the spaces they take. */
  *#split(text: string, tokens: LongestMatch): Steps<string[]> {
    const parts: string[] = []
    let start = 0
    let steps = 0
    for (let at = 0; at < text.length && tokens.maxLength > 0; ) {
      if (++steps % STEP === 0) yield
      const found = tokens.at(text, at)
      if (found === undefined) {
        at++
        continue
      }
      if (at > start) parts.push(text.slice(start, at))
      parts.push(found)
      at += found.length
      start = at
    }
    if (start < text.length) parts.push(text.slice(start))
    for (let i = 0; i < parts.length; i++) {
      if (++steps % STEP === 0) yield
      const token = this.#tokens.get(parts[i]!)
      if (token?.lstrip && i > 0) parts[i - 1] = parts[i - 1]!.trimEnd()
      if (token?.rstrip && i + 1 < parts.length) parts[i + 1] = parts[i + 1]!.trimStart()
    }
    return parts.filter(part => part !== '')
  }
}
