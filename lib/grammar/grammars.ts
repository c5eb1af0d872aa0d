/** The grammars of one model: each is compiled once, and kept while there is room. */
import type { PieceTable } from '../tokenizer/piece-table.js'
import { CompiledGrammar, type GrammarMatcher } from './compiled-grammar.js'
import type { GrammarSource } from './grammar-text.js'
import { type SharedVocabulary, shareVocabulary } from './vocabulary.js'

/** Threads that no text needs. Each takes some 100 MB with a vocabulary of 150,000. */
const MOST_IDLE = 4

export class Grammars {
  readonly #table: PieceTable
  readonly #vocabSize: number
  #vocabulary: Promise<SharedVocabulary> | undefined
  /** By source, the least recently used first. */
  readonly #kept = new Map<string, CompiledGrammar>()

  constructor(table: PieceTable, vocabSize: number) {
    this.#table = table
    this.#vocabSize = vocabSize
  }

  /**
   * The grammar, compiled, for the texts of one call.
   * @throws MoeppError ERR_BAD_GRAMMAR
   */
  async lease(source: GrammarSource): Promise<GrammarLease> {
    this.#vocabulary ??= shareVocabulary(this.#table, this.#vocabSize)
    const grammar = this.#grammar(source, await this.#vocabulary)
    const lease = new GrammarLease(grammar)
    this.#closeIdle()
    try {
      await grammar.compiled
      return lease
    } catch (error) {
      lease[Symbol.dispose]()
      throw error
    }
  }

  /** Texts that follow a grammar fail. */
  close(): void {
    for (const grammar of this.#kept.values()) grammar.close()
    this.#kept.clear()
  }

  #grammar(source: GrammarSource, vocabulary: SharedVocabulary): CompiledGrammar {
    const key = JSON.stringify(source)
    const known = this.#kept.get(key)
    const grammar = known?.hasFailed === false ? known : new CompiledGrammar(source, vocabulary)
    this.#kept.delete(key)
    this.#kept.set(key, grammar)
    return grammar
  }

  #closeIdle(): void {
    const idle = [...this.#kept].filter(([, { users }]) => users === 0)
    for (const [key, grammar] of idle.slice(0, -MOST_IDLE)) {
      grammar.close()
      this.#kept.delete(key)
    }
  }
}

/** The use of a grammar by one call. Its texts are forgotten at the end. */
export class GrammarLease implements Disposable {
  readonly grammar: CompiledGrammar
  readonly #matchers: GrammarMatcher[] = []

  constructor(grammar: CompiledGrammar) {
    this.grammar = grammar
    grammar.users++
  }

  /** As CompiledGrammar.open. */
  open(endIds: Iterable<number>, dropsSpace: boolean): GrammarMatcher {
    const matcher = this.grammar.open(endIds, dropsSpace)
    this.#matchers.push(matcher)
    return matcher
  }

  [Symbol.dispose](): void {
    for (const matcher of this.#matchers) matcher.close()
    this.grammar.users--
  }
}
