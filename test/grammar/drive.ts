/** Texts that a grammar's own thread allows, without a model. */
import { CompiledGrammar, type GrammarMatcher } from '../../lib/grammar/compiled-grammar.js'
import type { GrammarSource } from '../../lib/grammar/grammar-text.js'
import { type SharedVocabulary, shareVocabulary } from '../../lib/grammar/vocabulary.js'
import type { Tokenizer } from '../../lib/tokenizer/tokenizer.js'

export class Driver {
  readonly #tokenizer: Tokenizer
  readonly #vocabulary: SharedVocabulary
  /** Tokens that lead to an end. */
  readonly #closing: readonly number[]

  static async of(tokenizer: Tokenizer): Promise<Driver> {
    const vocabulary = await shareVocabulary(tokenizer.pieces, tokenizer.vocabSize)
    return new Driver(tokenizer, vocabulary)
  }

  constructor(tokenizer: Tokenizer, vocabulary: SharedVocabulary) {
    this.#tokenizer = tokenizer
    this.#vocabulary = vocabulary
    const closes = (id: number) => /^ ?["}\]]/.test(tokenizer.pieces.texts[id] ?? '')
    this.#closing = Array.from(vocabulary.ends.keys()).filter(closes)
  }

  async compile(source: GrammarSource): Promise<CompiledGrammar> {
    const grammar = new CompiledGrammar(source, this.#vocabulary)
    await grammar.compiled
    return grammar
  }

  /** Random tokens among those that may follow; undefined: it did not end in `most` tokens. */
  async randomText(
    grammar: CompiledGrammar,
    next: () => number,
    most = 200,
    closing = 0.3,
  ): Promise<string | undefined> {
    const matcher = grammar.open([], false)
    const ids: number[] = []
    const pick = (list: readonly number[]) => list[Math.floor(next() * list.length)]
    try {
      while (ids.length < most) {
        await matcher.pending
        const mayEnd = (matcher.mask.at(-1)! & 1) === 1
        if (matcher.isComplete || (mayEnd && next() < 0.3)) return this.#text(ids)
        const ends = this.#closing.filter(id => isAllowed(matcher, id))
        const allowed = next() < closing && ends.length > 0 ? ends : this.#allowed(matcher)
        const id = pick(allowed)!
        ids.push(id)
        matcher.accept(id)
      }
      return undefined
    } finally {
      matcher.close()
    }
  }

  /** True if the tokens may follow each other, and the text may end behind them. */
  async accepts(grammar: CompiledGrammar, ids: readonly number[]): Promise<boolean> {
    const matcher = grammar.open([], false)
    try {
      for (const id of ids) {
        await matcher.pending
        if (!isAllowed(matcher, id)) return false
        matcher.accept(id)
      }
      await matcher.pending
      return (matcher.mask.at(-1)! & 1) === 1
    } finally {
      matcher.close()
    }
  }

  /** A token for each byte. */
  bytes(text: string): number[] {
    return Array.from(Buffer.from(text), byte => {
      const name = `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`
      return this.#tokenizer.tokenToId(name)!
    })
  }

  /** The longest tokens that spell the text, from left to right. */
  longest(text: string): number[] {
    const { bytes, ends } = this.#vocabulary
    const spelled = Array.from(ends, (end, id) =>
      Buffer.from(bytes.subarray(ends[id - 1] ?? 0, end)).toString('latin1'),
    )
    const byText = new Map(spelled.map((each, id) => [each, id]))
    const most = Math.max(...spelled.map(({ length }) => length))
    const all = Buffer.from(text).toString('latin1')
    const ids: number[] = []
    for (let at = 0; at < all.length; ) {
      let length = most
      while (length > 0 && !byText.has(all.slice(at, at + length))) length--
      if (length === 0) throw new Error(`no token for a byte of ${text}`)
      ids.push(byText.get(all.slice(at, at + length))!)
      at += length
    }
    return ids
  }

  #allowed(matcher: GrammarMatcher): number[] {
    return Array.from(this.#vocabulary.ends.keys()).filter(id => isAllowed(matcher, id))
  }

  #text(ids: readonly number[]): string {
    // Behind a first token, as the text of a prompt goes on.
    const first = this.#tokenizer.encode('a')
    const stream = this.#tokenizer.stream({ prompt: first })
    return ids.map(id => stream.push(id)).join('') + stream.flush()
  }
}

function isAllowed({ mask }: GrammarMatcher, id: number): boolean {
  return ((mask[id >> 5]! >>> (id & 31)) & 1) === 1
}
