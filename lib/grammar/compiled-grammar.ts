/**
 * A grammar for one vocabulary, in a thread of its own. The thread finds the tokens that may follow
 * while the model computes the next step.
 */
import { GuardedWorker, WorkerError, WorkerFault } from '../base/guarded-worker.js'
import { MoeppError } from '../errors.js'
import type { AllowedTokens } from '../sampling/allowed.js'
import { badGrammar } from './errors.js'
import type { GrammarSource } from './grammar-text.js'
import type { GrammarRequest, GrammarStep, OpenStep } from './grammar-thread.js'
import { Turns } from './turns.js'
import type { SharedVocabulary } from './vocabulary.js'

/** A vocabulary of 150,000 takes seconds, and most steps 0.1 ms. */
const DEADLINES = { compileMs: 30_000, stepMs: 5_000 }
/** Of the thread's JavaScript heap: the letters of a vocabulary. */
const MEMORY_MEGABYTES = 256
/** Of this process: each takes a core, and a hostile one up to a gigabyte. */
const compiles = new Turns(2)

export class CompiledGrammar {
  readonly #vocabSize: number
  readonly #worker = new GuardedWorker<GrammarRequest, undefined>({
    file: new URL('./grammar-thread.js', import.meta.url),
    memoryMegabytes: MEMORY_MEGABYTES,
  })
  /** Rejects if the grammar is wrong, or closed before. */
  readonly compiled: Promise<void>
  #isReady = false
  readonly #closing = new AbortController()
  /** Steps for the thread's next call, and that call. */
  #steps: GrammarStep[] = []
  #next: Promise<void> | undefined
  #failure: MoeppError | undefined
  #opened = 0
  /** Calls that follow it. */
  users = 0
  readonly #stepMs: number

  constructor(source: GrammarSource, vocabulary: SharedVocabulary, deadlines = DEADLINES) {
    this.#vocabSize = vocabulary.ends.length
    this.#stepMs = deadlines.stepMs
    this.compiled = this.#compile({ compile: source, vocabulary }, deadlines.compileMs)
    this.compiled.catch(() => {})
  }

  get hasFailed(): boolean {
    return this.#failure !== undefined
  }

  /** Compiled, and neither failed nor closed. */
  get isReady(): boolean {
    return this.#isReady && !this.hasFailed
  }

  /**
   * Begins a text, which the tokens `endIds` may end.
   * @param dropsSpace true: the first token would lose its space
   */
  open(endIds: Iterable<number>, dropsSpace: boolean): GrammarMatcher {
    const begin = { id: this.#opened++, endIds: [...endIds], dropsSpace }
    return new GrammarMatcher(begin, this.#vocabSize, step => this.#send(step))
  }

  /** Ends the thread. Texts that follow the grammar fail. */
  close(): void {
    this.#failure ??= closedGrammar()
    this.#closing.abort(this.#failure)
    this.#worker.close()
  }

  async #compile(request: GrammarRequest, deadlineMs: number): Promise<void> {
    await compiles.run(() => this.#call(request, deadlineMs), this.#closing.signal)
    this.#isReady = true
  }

  /** All steps that come before the event loop goes on are one message. */
  #send(step: GrammarStep): Promise<void> {
    this.#steps.push(step)
    this.#next ??= Promise.resolve().then(() => {
      const steps = this.#steps
      this.#steps = []
      this.#next = undefined
      return this.#call({ steps }, this.#stepMs)
    })
    return this.#next
  }

  async #call(request: GrammarRequest, deadlineMs: number): Promise<void> {
    if (this.#failure) throw this.#failure
    try {
      await this.#worker.call(request, deadlineMs)
    } catch (error) {
      // After an error nothing of the thread's state can be relied on.
      this.#failure ??= failureOf(error, deadlineMs)
      this.#worker.close()
      throw this.#failure
    }
  }
}

export function closedGrammar(): MoeppError {
  return new MoeppError('ERR_CLOSED', 'the grammar was closed')
}

function failureOf(error: unknown, deadlineMs: number): MoeppError {
  if (error instanceof WorkerError)
    return new MoeppError('ERR_BAD_GRAMMAR', error.message, { cause: error })
  const reason = error instanceof WorkerFault ? error.reason : 'crash'
  const problem =
    reason === 'time' ? `takes more than ${deadlineMs} ms` : 'takes more memory than it may'
  return badGrammar('grammar', problem, error)
}

/** The state of one text in its grammar. */
export class GrammarMatcher implements AllowedTokens {
  readonly #id: number
  readonly #send: (step: GrammarStep) => Promise<void>
  /** A bit for each token, and a word of state: 1 it may end, 2 it may go on. */
  readonly #shared: Int32Array
  #pending: Promise<void> | undefined

  constructor(
    begin: Omit<OpenStep, 'open'>,
    vocabSize: number,
    send: (step: GrammarStep) => Promise<void>,
  ) {
    this.#id = begin.id
    this.#send = send
    const open = new SharedArrayBuffer(4 * (Math.ceil(vocabSize / 32) + 1))
    this.#shared = new Int32Array(open)
    this.#follow({ ...begin, open })
  }

  /** The tokens that may follow are being found; undefined: they are known. */
  get pending(): Promise<void> | undefined {
    return this.#pending
  }

  get mask(): Int32Array {
    return this.#shared
  }

  get isComplete(): boolean {
    return this.#shared.at(-1) === 1
  }

  /** Goes on with a token. */
  accept(token: number): void {
    this.#follow({ id: this.#id, accept: token })
  }

  /** The thread forgets it. */
  close(): void {
    this.#send({ id: this.#id, close: true }).catch(() => {})
  }

  #follow(step: GrammarStep): void {
    this.#pending = this.#send(step).then(() => {
      // A grammar may lead where no token fits: XGrammar does not look ahead.
      if (this.#shared.at(-1) === 0)
        throw badGrammar('grammar', 'no token of the vocabulary may follow')
      this.#pending = undefined
    })
    // The failure is seen by the one that needs the tokens.
    this.#pending.catch(() => {})
  }
}
