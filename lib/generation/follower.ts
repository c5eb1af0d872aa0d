/** A rank above 0: computes the texts that rank 0 hands out, until that closes the group. */

import type { ModelStats } from '../engine/stats.js'
import { MoeppError } from '../errors.js'
import type { Lockstep, Post } from '../parallel/lockstep.js'
import { deferred, type Job } from './job.js'
import { type Answer, type Order, plainError } from './letters.js'
import type { GenerateChunk, GenerateResult } from './results.js'
import type { PortableText } from './text-generation.js'

/** Begins a text here. */
type Begin = (
  text: PortableText,
  signal: AbortSignal,
  onChunk?: (chunk: GenerateChunk) => void,
) => Promise<Job<GenerateResult>>

/** Rank 0 has figures that are not older. */
const STATS_MS = 500

export class Follower implements Post {
  readonly expects = false
  readonly #lockstep: Lockstep
  readonly #begin: Begin
  readonly #stats: () => ModelStats
  readonly #jobs = new Map<number, Job<GenerateResult>>()
  #toldAt = Number.NEGATIVE_INFINITY

  constructor(lockstep: Lockstep, begin: Begin, stats: () => ModelStats) {
    this.#lockstep = lockstep
    this.#begin = begin
    this.#stats = stats
  }

  receive(letters: readonly unknown[]): void {
    for (const order of letters as readonly Order[]) {
      if (order.kind === 'start') this.#start(order)
      else this.#jobs.get(order.id)?.cancel()
    }
  }

  beforeRound(): void {
    if (performance.now() - this.#toldAt >= STATS_MS) this.#tellStats()
  }

  #tellStats(): void {
    this.#toldAt = performance.now()
    this.#answer({ kind: 'stats', stats: this.#stats() })
  }

  #answer(letter: Answer): void {
    this.#lockstep.send(0, letter)
  }

  /** The engine ends the texts. */
  fail(): void {}

  /** The calls of this rank's own model. */
  refusal(): MoeppError {
    const { rank, size } = this.#lockstep
    return new MoeppError(
      'ERR_UNSUPPORTED',
      `this process is rank ${rank} of ${size} and serves rank 0, which takes the calls; expected a call at rank 0`,
    )
  }

  #start({ id, text, tells }: Order & { kind: 'start' }): void {
    const onChunk = (chunk: GenerateChunk) => this.#answer({ kind: 'chunk', id, chunk })
    const job = deferred(undefined, signal =>
      tells ? this.#begin(text, signal, onChunk) : this.#begin(text, signal),
    )
    this.#jobs.set(id, job)
    const end = (letter: Answer) => {
      this.#jobs.delete(id)
      this.#answer(letter)
      this.#tellStats()
    }
    job.done.then(
      result => end({ kind: 'result', id, result }),
      error => end({ kind: 'failure', id, failure: plainError(error) }),
    )
  }
}
