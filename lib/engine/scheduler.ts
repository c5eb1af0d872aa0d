/**
 * Decides what the next step computes.
 *
 * A step holds the next token of each sequence that generates. Pieces of prompts fill the room that
 * is left. While others wait, the oldest unfinished prompt gets at most half of that room: a long
 * prompt neither starves nor blocks. Sequences are admitted in the order of their arrival, as soon
 * as there are pages for all of their tokens. When pages run out, the youngest sequence gives up
 * its own and is computed again later. Guesses of the next tokens fill small steps. Rows of logits
 * are shared out as tokens are: a step has neither more tokens nor more rows than the runner says.
 */
import type { KvPages } from './kv-cache.js'
import type { Runner } from './runner.js'
import type { Sequence } from './sequence.js'

/** Tokens `from` .. `to` - 1 of a sequence, to be computed in a step. */
export interface Chunk {
  readonly sequence: Sequence
  readonly from: number
  readonly to: number
  /** The last of them, where they are guesses. */
  readonly drafted: readonly number[]
}

type StepLimits = Pick<Runner, 'maxStepTokens' | 'maxLogitRows' | 'draftingTokens'>

export class Scheduler {
  readonly #pages: KvPages
  readonly #maxStepTokens: number
  readonly #maxLogitRows: number
  readonly #draftingTokens: number
  readonly #maxRunning: number
  /** In order of arrival. */
  readonly #waiting: Sequence[] = []
  /** Those with pages, in order of admission. */
  readonly #running: Sequence[] = []
  readonly #counts = { preemptions: 0, prefixHits: 0, prefixTokens: 0 }

  constructor(pages: KvPages, { maxStepTokens, maxLogitRows, draftingTokens }: StepLimits) {
    this.#pages = pages
    this.#maxStepTokens = maxStepTokens
    this.#maxLogitRows = maxLogitRows
    this.#draftingTokens = Math.min(maxStepTokens, maxLogitRows, draftingTokens)
    // Half of a step at least is left to prompts.
    this.#maxRunning = Math.max(1, Math.floor(Math.min(maxStepTokens, maxLogitRows) / 2))
  }

  get sequences(): Sequence[] {
    return [...this.#running, ...this.#waiting]
  }

  get isEmpty(): boolean {
    return this.#running.length === 0 && this.#waiting.length === 0
  }

  /** The current queue lengths, and counters of events since the start. */
  get counts() {
    return {
      waiting: this.#waiting.length,
      running: this.#running.length,
      ...this.#counts,
    }
  }

  add(sequence: Sequence): void {
    this.#waiting.push(sequence)
  }

  /**
   * Takes a sequence out and frees its pages. A step that uses them may be under way, but not
   * `plan`.
   */
  remove(sequence: Sequence): void {
    for (const list of [this.#waiting, this.#running]) {
      const at = list.indexOf(sequence)
      if (at !== -1) list.splice(at, 1)
    }
    this.#pages.close(sequence.pages)
    sequence.pages = []
  }

  /**
   * The next step's chunks, one per sequence; none only if there are no sequences, or if the pages
   * that they need are held by others. Not while a step is under way.
   */
  plan(): Chunk[] {
    const hadToPreempt = this.#growRunning()
    if (!hadToPreempt) this.#admit()
    const decoding = this.#running.filter(sequence => sequence.remaining === 1)
    const prefilling = this.#running.filter(sequence => sequence.remaining > 1)
    const prefill = sharePrefill(prefilling, {
      tokens: this.#maxStepTokens - decoding.length,
      rows: this.#maxLogitRows - decoding.length,
    })
    const tokens = prefill.reduce((n, { from, to }) => n + to - from, decoding.length)
    return [...this.#nextTokens(decoding, this.#draftingTokens - tokens), ...prefill]
  }

  /** The copies that the planned step must make. */
  copies(): Int32Array {
    return this.#pages.copies()
  }

  /** Notes that a step has run, before `complete` for each of its chunks. */
  recordCopies(): void {
    this.#pages.recordCopies()
  }

  /** Notes that a step has computed a chunk. */
  complete({ sequence, from, to }: Chunk): void {
    this.#pages.record(sequence.pages, sequence, from, to)
    sequence.computed = to
  }

  /** The next token of each sequence, and guesses. The later ones get what the earlier leave. */
  #nextTokens(decoding: readonly Sequence[], room: number): Chunk[] {
    let left = room
    return decoding.map((sequence, i) => {
      const chunk = this.#drafted(sequence, Math.floor(left / (decoding.length - i)))
      left -= chunk.drafted.length
      return chunk
    })
  }

  /** The next token of a sequence and guesses, as many as fit in its pages and unused ones. */
  #drafted(sequence: Sequence, most: number): Chunk {
    const { pages, request, computed } = sequence
    const { pageSize, available } = this.#pages
    const next = chunkOf(sequence, { tokens: 1, rows: 1 })
    const room = Math.min(most, (pages.length + available) * pageSize - next.to)
    const drafted = (room > 0 && request.consumer.draft?.(room)) || []
    const to = next.to + drafted.length
    while (pages.length * pageSize < to) this.#pages.extend(pages)
    return { sequence, from: computed, to, drafted }
  }

  /**
   * Gives every running sequence a page for each of its tokens, at the cost of the youngest if need
   * be. Pages of guesses that did not come are given back before.
   */
  #growRunning(): boolean {
    let hadToPreempt = false
    for (const { pages, tokens } of this.#running)
      this.#pages.close(pages.splice(Math.ceil(tokens.length / this.#pages.pageSize)))
    for (const sequence of [...this.#running]) {
      while (
        this.#running.includes(sequence) &&
        sequence.pages.length * this.#pages.pageSize < sequence.tokens.length &&
        !this.#pages.extend(sequence.pages)
      ) {
        this.#preempt(this.#running.at(-1)!)
        hadToPreempt = true
      }
    }
    return hadToPreempt
  }

  #preempt(sequence: Sequence): void {
    this.remove(sequence)
    this.#counts.preemptions++
    sequence.computed = 0
    this.#waiting.unshift(sequence)
  }

  #admit(): void {
    let at = 0
    while (
      at < this.#waiting.length &&
      this.#running.length < this.#maxRunning &&
      this.#hasRoomForPrompt()
    ) {
      const sequence = this.#waiting[at]!
      if (this.#shouldWaitForPrefix(sequence)) {
        at++
        continue
      }
      // A page for each running sequence is left, or the next steps would preempt what is admitted
      // now.
      const opened = this.#pages.open(sequence, sequence.reusable, this.#running.length)
      if (!opened) return
      this.#waiting.splice(at, 1)
      this.#running.push(sequence)
      sequence.pages = opened.pages
      sequence.computed = opened.computed
      this.#noteAdmission(sequence)
    }
  }

  #noteAdmission(sequence: Sequence): void {
    if (sequence.cachedTokens !== undefined) return
    sequence.cachedTokens = sequence.computed
    if (sequence.computed > 0) this.#counts.prefixHits++
    this.#counts.prefixTokens += sequence.computed
  }

  /** True if the step has room left after the prompts that are admitted already. */
  #hasRoomForPrompt(): boolean {
    let room = this.#maxStepTokens
    let isOldest = true
    for (const { remaining } of this.#running) {
      if (remaining === 1) room--
      else if (remaining > 1) {
        room -= isOldest ? Math.min(remaining, this.#maxStepTokens >> 1) : remaining
        isOldest = false
      }
    }
    return room > 0
  }

  /**
   * True if a running sequence is about to compute the beginning of this one. Waiting for it must
   * save a page or half of the work: a shared first token alone is not worth it.
   */
  #shouldWaitForPrefix(sequence: Sequence): boolean {
    let coming = 0
    for (const running of this.#running) {
      if (running.remaining > 1) coming = Math.max(coming, commonPrefix(sequence, running))
    }
    if (coming === 0) return false
    const cached = this.#pages.cachedTokens(sequence, sequence.reusable)
    const saved = coming - cached
    return (
      saved > 0 && saved >= Math.min(this.#pages.pageSize, (sequence.tokens.length - cached) / 2)
    )
  }
}

/** Room of a step: for tokens, and for rows of logits. */
interface Room {
  readonly tokens: number
  readonly rows: number
}

/** The next tokens of a sequence that fit; none where not even the first one's logits do. */
function chunkOf(sequence: Sequence, { tokens, rows }: Room): Chunk {
  const { computed, remaining, nextLogits } = sequence
  const most = computed + Math.min(tokens, remaining)
  const to = Math.min(most, Math.max(computed, nextLogits) + rows)
  return { sequence, from: computed, to, drafted: [] }
}

/**
 * Shares out the room for prompts: half to the oldest, the rest to the shortest, what they leave to
 * the oldest.
 */
function sharePrefill(prefilling: readonly Sequence[], room: Room): Chunk[] {
  const [oldest, ...others] = prefilling
  if (!oldest) return []
  const half = { tokens: Math.ceil(room.tokens / 2), rows: Math.ceil(room.rows / 2) }
  let left = less(room, chunkOf(oldest, half))
  const chunks: Chunk[] = []
  for (const sequence of others.sort((a, b) => a.remaining - b.remaining)) {
    if (left.tokens === 0) break
    const chunk = chunkOf(sequence, left)
    if (chunk.from === chunk.to) continue
    chunks.push(chunk)
    left = less(left, chunk)
  }
  return [chunkOf(oldest, chunks.reduce(less, room)), ...chunks]
}

/** The room that a chunk leaves. */
function less({ tokens, rows }: Room, { sequence, from, to }: Chunk): Room {
  const logitsFrom = Math.max(from, sequence.nextLogits)
  return { tokens: tokens - (to - from), rows: rows - Math.max(0, to - logitsFrom) }
}

/** Tokens that both begin with, of those that `sequence` could take over. */
function commonPrefix(sequence: Sequence, other: Sequence): number {
  const most = Math.min(sequence.reusable, other.tokens.length)
  let n = 0
  while (
    n < most &&
    sequence.tokens[n] === other.tokens[n] &&
    sequence.keyVariants[n] === other.keyVariants[n]
  ) {
    n++
  }
  return n
}
