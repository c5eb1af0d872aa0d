/** The grammars of one model: each is compiled once, and kept while there is room. */
import { once } from 'node:events'
import type { PieceTable } from '../tokenizer/piece-table.js'
import { CompiledGrammar, closedGrammar, type GrammarMatcher } from './compiled-grammar.js'
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
  #isClosed = false

  constructor(table: PieceTable, vocabSize: number) {
    this.#table = table
    this.#vocabSize = vocabSize
  }

  /**
   * The grammar, compiled, for the texts of one call. If the signal aborts before, and no other
   * call waits for it, its thread ends.
   * @throws MoeppError ERR_BAD_GRAMMAR, ERR_CLOSED; the signal's reason
   */
  async lease(source: GrammarSource, signal?: AbortSignal): Promise<GrammarLease> {
    this.#vocabulary ??= shareVocabulary(this.#table, this.#vocabSize)
    const vocabulary = await this.#vocabulary
    signal?.throwIfAborted()
    if (this.#isClosed) throw closedGrammar()
    const lease = new GrammarLease(this.#grammar(source, vocabulary), () => this.#closeIdle())
    try {
      await unlessAborted(lease.grammar.compiled, signal)
      return lease
    } catch (error) {
      lease[Symbol.dispose]()
      throw error
    }
  }

  /** Texts that follow a grammar fail. */
  close(): void {
    this.#isClosed = true
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

  /** Idle ones that are not compiled, and the oldest of the others. */
  #closeIdle(): void {
    const idle = [...this.#kept].filter(([, { users }]) => users === 0)
    const ready = idle.filter(([, { isReady }]) => isReady).slice(-MOST_IDLE)
    for (const each of idle.filter(each => !ready.includes(each))) {
      const [key, grammar] = each
      grammar.close()
      this.#kept.delete(key)
    }
  }
}

async function unlessAborted(promise: Promise<void>, signal?: AbortSignal): Promise<void> {
  if (!signal) return promise
  const done = new AbortController()
  const aborted = once(signal, 'abort', { signal: done.signal }).then(() => signal.throwIfAborted())
  aborted.catch(() => {})
  try {
    await Promise.race([promise, aborted])
  } finally {
    done.abort()
  }
}

/** The use of a grammar by one call. Its texts are forgotten at the end. */
export class GrammarLease implements Disposable {
  readonly grammar: CompiledGrammar
  readonly #matchers: GrammarMatcher[] = []
  readonly #onEnd: () => void

  constructor(grammar: CompiledGrammar, onEnd: () => void) {
    this.grammar = grammar
    this.#onEnd = onEnd
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
    this.#onEnd()
  }
}
