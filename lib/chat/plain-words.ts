/**
 * Keeps the words of messages from passing for the template's: a user who writes `<|im_end|>` must
 * not end the turn. Before a template is rendered, a mark is put into every special token that the
 * messages hold. It is taken out again after the special tokens have been found.
 */
import { isObject } from '../base/json.js'
import type { Part } from '../tokenizer/added-tokens.js'
import { LongestMatch } from '../tokenizer/longest-match.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'

/** Characters that Unicode keeps free for such uses: U+FDD0 to U+FDEF. */
const FREE = Array.from({ length: 32 }, (_, i) => String.fromCharCode(0xfdd0 + i))

export class PlainWords {
  readonly #specials: LongestMatch
  readonly #ids: ReadonlyMap<string, number>
  readonly #mark: string
  /** Each special token, cut in two at each place. */
  readonly #halves: readonly (readonly [begin: string, end: string])[]

  /** For words that all stand in `values`. */
  constructor({ specialTokens }: Pick<Tokenizer, 'specialTokens'>, values: unknown) {
    this.#ids = new Map(specialTokens.map(({ id, content }) => [content, id]))
    this.#specials = new LongestMatch([...this.#ids.keys()])
    this.#halves = [...this.#ids.keys()].flatMap(token =>
      Array.from({ length: token.length - 1 }, (_, i) => [
        token.slice(0, i + 1),
        token.slice(i + 1),
      ]),
    ) as [string, string][]
    const words = JSON.stringify(values) ?? ''
    this.#mark = FREE.find(mark => !words.includes(mark)) ?? FREE[0]!
  }

  /** A copy with the mark in every special token of its texts and keys. */
  marked<T>(value: T): T {
    if (typeof value === 'string') return this.#markedText(value) as T
    if (Array.isArray(value)) return value.map(each => this.marked(each)) as T
    if (!isObject(value)) return value
    return Object.fromEntries(
      Object.entries(value).map(([key, each]) => [this.#markedText(key), this.marked(each)]),
    ) as T
  }

  /** The parts of a text that was rendered from marked values. */
  parts(rendered: string): Part[] {
    return this.#split(rendered).map(part => this.#ids.get(part) ?? part.replaceAll(this.#mark, ''))
  }

  #markedText(text: string): string {
    const marked = this.#split(text)
      .map(part => (this.#ids.has(part) ? [...part].join(this.#mark) : part))
      .join('')
    // A template may put two texts side by side that make a token together.
    const begins = this.#halves.some(([, end]) => text.startsWith(end))
    const ends = this.#halves.some(([begin]) => text.endsWith(begin))
    return (begins ? this.#mark : '') + marked + (ends ? this.#mark : '')
  }

  /** Special tokens, and the texts between them. */
  #split(text: string): string[] {
    const parts: string[] = []
    let start = 0
    for (let at = 0; at < text.length; ) {
      const found = this.#specials.at(text, at)
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
    return parts
  }
}
