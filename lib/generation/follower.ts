/** A rank above 0: computes the texts that rank 0 hands out, until that closes the group. */
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

export class Follower implements Post {
  readonly expects = false
  readonly #lockstep: Lockstep
  readonly #begin: Begin
  readonly #jobs = new Map<number, Job<GenerateResult>>()

  constructor(lockstep: Lockstep, begin: Begin) {
    this.#lockstep = lockstep
    this.#begin = begin
  }

  receive(letters: readonly unknown[]): void {
    for (const order of letters as readonly Order[]) {
      if (order.kind === 'start') this.#start(order)
      else this.#jobs.get(order.id)?.cancel()
    }
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
    const answer = (letter: Answer) => this.#lockstep.send(0, letter)
    const onChunk = (chunk: GenerateChunk) => answer({ kind: 'chunk', id, chunk })
    const job = deferred(undefined, signal =>
      tells ? this.#begin(text, signal, onChunk) : this.#begin(text, signal),
    )
    this.#jobs.set(id, job)
    const end = (letter: Answer) => {
      this.#jobs.delete(id)
      answer(letter)
    }
    job.done.then(
      result => end({ kind: 'result', id, result }),
      error => end({ kind: 'failure', id, failure: plainError(error) }),
    )
  }
}
