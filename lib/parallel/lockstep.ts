/**
 * The steps of a rank in its group. All ranks begin each step together: they exchange mail, and run
 * the step if any of them has tokens. A rank without a step of its own takes part for its experts.
 */
import { setImmediate } from 'node:timers/promises'
import { fromNative, type NativeGroup } from '../addon/binding.js'
import type { Step, StepResult } from '../engine/runner.js'
import { MoeppError } from '../errors.js'
import { readMail, writeMail } from './mail.js'

/**
 * A rank's part of a step, which begins with an exchange of mail, one message for each rank.
 * Without `step` it computes for the others alone. Undefined if no rank had tokens. `onLetters`
 * gets the mail of all ranks while the step runs, if there are letters in it.
 */
export type Compute = (
  step: Step | undefined,
  mail: readonly Uint8Array[],
  onLetters: (mail: readonly Uint8Array[]) => void,
) => Promise<StepResult | undefined>

/** The owner of a rank's letters. */
export interface Post {
  /** Called before the mail of each round is written. */
  beforeRound?(): void
  /** Called before the step that the letters came with. */
  receive(letters: readonly unknown[], from: number): void
  /** True while answers of other ranks are to come. */
  readonly expects: boolean
  /** The group has ended. */
  fail(error: MoeppError): void
}

interface Wanted {
  readonly step: Step
  resolve(result: StepResult): void
  reject(error: unknown): void
}

/** Of a rank that runs steps without calls of a model. */
const NO_POST: Post = { expects: false, receive() {}, fail() {} }

/** Rank 0 sends mail at least so often, so that a rank that died is noticed. */
const HEARTBEAT_MS = 1000
/** Between two looks for an answer while no rank has tokens. */
const MOST_PAUSE_MS = 16

export class Lockstep {
  readonly rank: number
  readonly size: number
  readonly #group: NativeGroup
  readonly #compute: Compute
  readonly #tokensOf: (step: Step) => number
  readonly #heartbeatMs: number
  /** By rank. */
  readonly #letters: unknown[][]
  #work: Promise<void> | undefined
  #post = NO_POST
  #wanted: Wanted | undefined
  /** The engine is. */
  #isAwake = false
  #isClosing = false
  /** The exchange and the step under way. */
  #round: Promise<void> | undefined
  /** Since the last round with tokens or letters. */
  #pauseMs = 0
  #poke: (() => void) | undefined
  /** All that comes later fails with it. */
  #end: MoeppError | undefined

  /**
   * @param deadlineMs of the group's exchanges; 0: none
   * @param tokensOf those that a rank computes for a step of its own
   */
  constructor(
    group: NativeGroup,
    deadlineMs: number,
    compute: Compute,
    tokensOf = ({ tokens }: Step): number => tokens.length,
  ) {
    this.rank = group.rank
    this.size = group.size
    this.#group = group
    this.#compute = compute
    this.#tokensOf = tokensOf
    this.#heartbeatMs = Math.min(HEARTBEAT_MS, deadlineMs === 0 ? HEARTBEAT_MS : deadlineMs / 4)
    this.#letters = Array.from({ length: group.size }, () => [])
  }

  /** Takes part in the steps from now on. All ranks must have loaded. */
  begin(post = NO_POST): void {
    this.#post = post
    this.#work = this.#rounds()
    // `ended` gives the failure out, and so does each step.
    this.#work.catch(() => {})
    // A process without further work ends, as with a model that has no group.
    if (this.rank === 0) process.once('beforeExit', this.#onExit)
  }

  /** The failure of the group, or its end, if it has come. */
  get end(): MoeppError | undefined {
    return this.#end
  }

  /**
   * Resolves when rank 0 has closed the group.
   * @throws MoeppError ERR_PARALLEL
   */
  get ended(): Promise<void> {
    return this.#work ?? Promise.resolve()
  }

  /** With the next mail. */
  send(rank: number, letter: unknown): void {
    this.#letters[rank]!.push(letter)
    this.#pauseMs = 0
    this.#wake()
  }

  /** In the next step that all ranks begin. */
  run(step: Step): Promise<StepResult> {
    if (!this.#work) this.begin(NO_POST)
    return new Promise((resolve, reject) => {
      if (this.#end) {
        reject(this.#end)
        return
      }
      this.#wanted = { step, resolve, reject }
      this.#wake()
    })
  }

  /** See Runner. */
  async wakes(): Promise<void> {
    this.#isAwake = true
    this.#wake()
    await this.#round
  }

  /** See Runner. */
  rests(): void {
    this.#isAwake = false
    this.#wake()
  }

  /** Rank 0 ends the group; other ranks wait for that. */
  async close(): Promise<void> {
    this.#isClosing = this.rank === 0
    this.#wake()
    // Those who wait for a step have its failure.
    await this.#work?.catch(() => {})
    await this.#group.close().catch(() => {})
  }

  readonly #onExit = (): void => {
    void this.close()
  }

  async #rounds(): Promise<void> {
    try {
      let isLast = false
      while (!isLast) {
        const waitMs = this.#waitMs
        if (waitMs > 0) {
          const isPoked = await this.#poked(waitMs)
          // The engine may wake as the wait ends.
          if (isPoked || (this.#isAwake && !this.#wanted)) continue
        }
        // From here to the exchange nothing else runs.
        const round = this.#next()
        this.#round = round.then(
          () => {},
          () => {},
        )
        isLast = await round
        this.#round = undefined
      }
      this.#finish(new MoeppError('ERR_CLOSED', 'rank 0 has closed the model'))
    } catch (error) {
      const failure = asFailure(error)
      this.#group.abort(failure.message)
      this.#finish(failure)
      throw failure
    }
  }

  #finish(error: MoeppError): void {
    this.#end = error
    process.off('beforeExit', this.#onExit)
    this.#wanted?.reject(error)
    this.#wanted = undefined
    this.#round = undefined
    this.#post.fail(error)
  }

  /**
   * Milliseconds until the next round; 0: it is due. Rank 0 begins one for a step, for mail, and
   * now and then without a reason; others wait for it within the exchange. An engine that is awake
   * says first which step it wants, if any.
   */
  get #waitMs(): number {
    if (this.#wanted) return 0
    if (this.#isAwake) return Number.POSITIVE_INFINITY
    if (this.rank !== 0 || this.#isClosing || this.#hasLetters) return 0
    return this.#post.expects ? this.#pauseMs : this.#heartbeatMs
  }

  get #hasLetters(): boolean {
    return this.#letters.some(letters => letters.length > 0)
  }

  /** True at the next `#wake`, false after so many milliseconds. */
  #poked(ms: number): Promise<boolean> {
    return new Promise(resolve => {
      const timer = ms < Number.POSITIVE_INFINITY ? setTimeout(() => done(false), ms) : undefined
      // An idle model does not keep its process alive.
      if (!this.#post.expects) timer?.unref()
      const done = (isPoked: boolean) => {
        clearTimeout(timer)
        this.#poke = undefined
        resolve(isPoked)
      }
      this.#poke = () => done(true)
    })
  }

  #wake(): void {
    this.#poke?.()
  }

  /** One exchange, and its step. True after the last. */
  async #next(): Promise<boolean> {
    const wanted = this.#wanted
    this.#wanted = undefined
    let letters: Letters = { count: 0, isLast: false }
    try {
      const mail = this.#mail(wanted ? this.#tokensOf(wanted.step) : 0)
      const result = await this.#compute(wanted?.step, mail, received => {
        letters = this.#receive(received)
      })
      if (letters.fault) throw letters.fault
      if (result) {
        this.#pauseMs = 0
        wanted?.resolve(result)
      } else await this.#pass(letters.count > 0)
      return letters.isLast
    } catch (error) {
      const failure = asFailure(error)
      wanted?.reject(failure)
      throw failure
    }
  }

  /** A round without a step. Letters may be about to make one. */
  async #pass(hasLetters: boolean): Promise<void> {
    this.#pauseMs = hasLetters ? 0 : Math.min(MOST_PAUSE_MS, 2 * this.#pauseMs + 1)
    if (hasLetters) await setImmediate()
  }

  #mail(tokens: number): Uint8Array[] {
    this.#post.beforeRound?.()
    const isLast = this.#isClosing
    const mail = this.#letters.map(letters => writeMail({ tokens, isLast, letters }))
    for (const letters of this.#letters) letters.length = 0
    return mail
  }

  /** Called by native code, so that it must not throw. */
  #receive(received: readonly Uint8Array[]): Letters {
    let count = 0
    try {
      const mail = received.map(readMail)
      for (const [from, { letters }] of mail.entries()) {
        count += letters.length
        if (letters.length > 0) this.#post.receive(letters, from)
      }
      return { count, isLast: mail[0]!.isLast }
    } catch (fault) {
      return { count, isLast: false, fault }
    }
  }
}

/** The letters of a round. */
interface Letters {
  readonly count: number
  readonly isLast: boolean
  readonly fault?: unknown
}

function asFailure(error: unknown): MoeppError {
  const known = fromNative(error)
  if (known instanceof MoeppError) return known
  return new MoeppError('ERR_PARALLEL', (known as Error).message, { cause: known })
}
