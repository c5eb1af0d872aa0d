/**
 * Admission of texts. The engine computes those that run together. The others wait in a queue of
 * bounded length, first come first served. It refuses those that it has no room for.
 */
import { RequestError } from './errors.js'

export interface AdmissionLimits {
  /** Most texts that run at a time. */
  readonly maxRunning: number
  /** Most texts that wait. */
  readonly maxQueued: number
  /** Most tokens of the prompts that wait, and of what they may generate. */
  readonly maxQueuedTokens: number
}

/** The texts of one request. */
export interface Load {
  readonly texts: number
  /** Of all of them together: their prompts, and what they may generate. */
  readonly tokens: number
}

interface Waiting {
  readonly tokens: number
  start(): void
}

/** Requests are asked to come back within a minute. */
const MOST_RETRY_SECONDS = 60

/** Weight of the newest text in the mean time that texts take. */
const NEWEST = 0.1

export class Admission {
  readonly limits: AdmissionLimits
  #running = 0
  #queuedTokens = 0
  /** In the order of their coming. */
  readonly #queue = new Set<Waiting>()
  #meanSeconds = 1

  constructor(limits: AdmissionLimits) {
    this.limits = limits
  }

  /** Texts that run. */
  get running(): number {
    return this.#running
  }

  /** Texts that wait. */
  get queued(): number {
    return this.#queue.size
  }

  get queuedTokens(): number {
    return this.#queuedTokens
  }

  /** True if a text that came now would be refused. */
  get isFull(): boolean {
    const { maxRunning, maxQueued, maxQueuedTokens } = this.limits
    const mustWait = this.#queue.size > 0 || this.#running >= maxRunning
    return mustWait && (this.#queue.size >= maxQueued || this.#queuedTokens >= maxQueuedTokens)
  }

  /**
   * Refuses a request before any work is done for it, if it cannot be admitted.
   * @throws RequestError 429
   */
  check(): void {
    if (this.isFull) throw this.#refusal()
  }

  /**
   * Refuses a request of more texts than there are places.
   * @throws RequestError 400
   */
  checkCount(texts: number): void {
    const most = this.limits.maxRunning + this.limits.maxQueued
    if (texts <= most) return
    const message = `${texts} texts: this server takes ${most} at a time`
    throw new RequestError(400, 'invalid_request_error', message)
  }

  /**
   * Admits the texts of a request all together: each then waits for its turn. A request that
   * nothing waits before may have more tokens than the limit, as no later time suits it better.
   * @throws RequestError 429, or 400 if it never fits
   */
  admit({ texts, tokens }: Load): Admitted {
    this.checkCount(texts)
    const { maxRunning, maxQueued, maxQueuedTokens } = this.limits
    const free = this.#queue.size > 0 ? 0 : Math.max(0, maxRunning - this.#running)
    const waiting = Math.max(0, texts - free)
    const tooLong = this.#queue.size + waiting > maxQueued
    const tooMany = this.#queue.size > 0 && this.#queuedTokens + tokens > maxQueuedTokens
    if (waiting > 0 && (tooLong || tooMany)) throw this.#refusal()
    // A whole number: sums of fractions would not come back to 0.
    const share = Math.ceil(tokens / texts)
    return new Admitted(texts, () => this.#enqueue(share))
  }

  /** A place in the queue, or among those that run if there is room. */
  #enqueue(tokens: number): Place {
    let begin: () => void
    const turn = new Promise<void>(resolve => {
      begin = resolve
    })
    let startedAt: number | undefined
    const waiting: Waiting = {
      tokens,
      start: () => {
        this.#running++
        startedAt = performance.now()
        begin()
      },
    }
    this.#queue.add(waiting)
    this.#queuedTokens += tokens
    this.#startNext()
    const leave = () => {
      if (this.#take(waiting)) return
      if (startedAt === undefined) return
      this.#meanSeconds += NEWEST * ((performance.now() - startedAt) / 1000 - this.#meanSeconds)
      startedAt = undefined
      this.#running--
      this.#startNext()
    }
    return { turn, leave }
  }

  #take(waiting: Waiting): boolean {
    const wasQueued = this.#queue.delete(waiting)
    if (wasQueued) this.#queuedTokens -= waiting.tokens
    return wasQueued
  }

  #startNext(): void {
    for (const waiting of this.#queue) {
      if (this.#running >= this.limits.maxRunning) return
      this.#take(waiting)
      waiting.start()
    }
  }

  #refusal(): RequestError {
    const seconds = (this.#meanSeconds * this.#queue.size) / this.limits.maxRunning
    return new RequestError(429, 'rate_limit_error', 'the queue is full; try again later', {
      code: 'queue_full',
      retryAfterSeconds: Math.min(MOST_RETRY_SECONDS, Math.max(1, Math.ceil(seconds))),
    })
  }
}

interface Place {
  /** Resolves when the text may run; never if it leaves before. */
  readonly turn: Promise<void>
  /** Must be called when the text has ended, and may be called twice. */
  leave(): void
}

/** The places of one request's texts. */
export class Admitted implements Disposable {
  readonly #places: readonly Place[]

  constructor(texts: number, enqueue: () => Place) {
    this.#places = Array.from({ length: texts }, enqueue)
  }

  /** Resolves when text `i` may run. */
  turn(i: number): Promise<void> {
    return this.#places[i]!.turn
  }

  /** Text `i` has ended. */
  leave(i: number): void {
    this.#places[i]!.leave()
  }

  /** All texts have ended. */
  [Symbol.dispose](): void {
    for (const place of this.#places) place.leave()
  }
}
