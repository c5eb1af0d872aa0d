/**
 * The loop that turns sequences into steps of a runner, all callers together.
 *
 * It runs while there are sequences and is nothing but a few objects otherwise: no timer, no
 * pending work that would keep a process alive. Between two steps it hands the logits to the
 * sequences' consumers, and lets other events in between.
 */

import { TimeSlice } from '../base/time-slice.js'
import { MoeppError } from '../errors.js'
import type { Router } from '../program/model-spec.js'
import type { TopLogits } from '../sampling/top-logits.js'
import { deliverCaptured, isReadyBy, mustWait, readyFirst } from './delivery.js'
import { KvPages, type Page, type TokenRow } from './kv-cache.js'
import type { Runner, StepResult } from './runner.js'
import { Scheduler } from './scheduler.js'
import { Sequence, type SequenceReport, type SequenceRequest, type Submission } from './sequence.js'
import { type ModelStats, SizeCounter } from './stats.js'
import { buildStep, type PlacedChunk, type PlannedStep, partsOf } from './step.js'

interface Promised {
  resolve(report: SequenceReport): void
  reject(error: unknown): void
}

/** The step that runs now, and who still wants its results. */
interface Flight {
  readonly wanted: Set<Sequence>
  /** See binding.ts, Control. */
  readonly control: BigInt64Array
}

/** Pages that hold, or will hold, a row of tokens. The first `shared` do already. */
export interface ReservedPages {
  readonly pages: Page[]
  readonly shared: number
  readonly row: TokenRow
}

/**
 * A step waits so long for consumers that are not ready, before it goes on without them: sequences
 * that stay together share steps.
 */
const PATIENCE_MS = 20

export class Engine {
  readonly #runner: Runner
  readonly #pages: KvPages
  readonly #scheduler: Scheduler
  readonly #createdAt = performance.now()
  readonly #counts = {
    promptTokens: 0,
    generatedTokens: 0,
    draftedTokens: 0,
    acceptedTokens: 0,
    steps: 0,
    lastStepTokens: 0,
    lastStepSequences: 0,
  }
  readonly #stepTokens = new SizeCounter()
  readonly #stepSequences = new SizeCounter()
  readonly #promised = new Map<Sequence, Promised>()
  /** Work to do before the next step. */
  readonly #tasks: (() => Promise<void>)[] = []
  #flight: Flight | undefined
  #loop: Promise<void> | undefined
  #closing: Promise<void> | undefined
  readonly #slice = new TimeSlice()

  constructor(runner: Runner) {
    this.#runner = runner
    this.#pages = new KvPages(runner)
    this.#scheduler = new Scheduler(this.#pages, runner)
  }

  stats(): ModelStats {
    const { pageSize, total, available, cached, shared } = this.#pages
    return {
      ...this.#scheduler.counts,
      kvPageSize: pageSize,
      kvPagesTotal: total,
      kvPagesUsed: total - available,
      kvPagesCached: cached,
      kvPagesShared: shared,
      ...this.#counts,
      stepTokens: this.#stepTokens.sizes,
      stepSequences: this.#stepSequences.sizes,
      uptimeMs: performance.now() - this.#createdAt,
    }
  }

  /**
   * Tokens of the longest sequence that can be computed: the context's, if the KV cache has as
   * many.
   */
  get maxTokens(): number {
    return Math.min(this.#runner.contextLength, this.#runner.pages * this.#runner.pageSize)
  }

  /** Layers with experts. */
  get routers(): readonly Router[] {
    return this.#runner.routers
  }

  /** Number of a row's largest logits that a step returns, for requests that take them. */
  get topLogits(): number {
    return this.#runner.topLogits
  }

  /** @throws MoeppError ERR_CLOSED */
  checkOpen(): void {
    if (this.#closing) throw new MoeppError('ERR_CLOSED', 'the model is closed')
  }

  /**
   * Begins a sequence. All that are submitted before the event loop goes on are planned together.
   * The tokens must be ids of the vocabulary, and the sequence must never grow beyond maxTokens.
   */
  submit(request: SequenceRequest): Submission {
    this.checkOpen()
    const sequence = new Sequence(request, length => this.#runner.keyVariant(length))
    const done = new Promise<SequenceReport>((resolve, reject) => {
      this.#promised.set(sequence, { resolve, reject })
    })
    this.#scheduler.add(sequence)
    this.#wake()
    return {
      done,
      cancel: () => this.#take(sequence)?.resolve(sequence.report(true)),
    }
  }

  /**
   * Runs `task` when no step does. It may read and write pages that its caller holds. Steps wait
   * for it, so it should be short.
   */
  async betweenSteps<T>(task: () => Promise<T>): Promise<T> {
    this.checkOpen()
    return new Promise((resolve, reject) => {
      this.#tasks.push(async () => {
        try {
          resolve(await task())
        } catch (error) {
          reject(error)
        }
      })
      this.#wake()
    })
  }

  /**
   * Takes pages for tokens that no step computes. Their caller fills them, from `shared` on, and
   * then calls `adopt`; in any case it calls `release`. Undefined if too few pages are free.
   */
  reserve(tokens: readonly number[]): ReservedPages | undefined {
    const row = this.#rowOf(tokens)
    const reserved = this.#pages.reserve(row, this.#scheduler.counts.running)
    return reserved && { ...reserved, row }
  }

  /** Puts the pages that were reserved and filled among those that prompts may begin with. */
  adopt({ pages, shared, row }: ReservedPages): void {
    this.#pages.record(pages, row, shared * this.#pages.pageSize, row.tokens.length)
  }

  /** Gives back pages that were reserved, or kept by a sequence. */
  release(pages: readonly Page[]): void {
    this.#pages.close(pages)
    this.#wake()
  }

  /** Ends every sequence with ERR_CLOSED, waits for the step under way and closes the runner. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  #rowOf(tokens: readonly number[]): TokenRow {
    const variant = this.#runner.keyVariant(tokens.length)
    return { tokens, keyVariants: new Array<number>(tokens.length).fill(variant) }
  }

  async #close(): Promise<void> {
    const error = new MoeppError('ERR_CLOSED', 'the model was closed')
    for (const sequence of this.#scheduler.sequences) this.#fail(sequence, error)
    await this.#loop
    await this.#runner.close()
  }

  #wake(): void {
    this.#loop ??= this.#work()
  }

  /**
   * Ends when there is nothing to do. Then no sequence is left, or all wait for pages that others
   * hold, whose release wakes it again.
   */
  async #work(): Promise<void> {
    await this.#runner.wakes?.()
    this.#slice.restart()
    for (;;) {
      for (const task of this.#tasks.splice(0)) await task()
      const planned = this.#plan()
      if (planned) await this.#step(planned)
      else if (this.#tasks.length === 0) break
    }
    this.#loop = undefined
    this.#runner.rests?.()
  }

  async #step(planned: PlannedStep): Promise<void> {
    const result = await this.#run(planned)
    if (result) {
      const patience = performance.now() + PATIENCE_MS
      for (const chunk of readyFirst(planned.chunks)) {
        if (mustWait(chunk) && !(await isReadyBy(chunk, patience)))
          this.#deliverLater(chunk, planned.step.tokens.length, result)
        else await this.#deliver(chunk, planned.step.tokens, result)
      }
    }
    await this.#slice.pauseIfOver()
  }

  #plan(): PlannedStep | undefined {
    try {
      const chunks = this.#scheduler.plan()
      if (chunks.length === 0) return undefined
      const planned = buildStep(chunks, this.#scheduler.copies(), this.#runner)
      const now = performance.now()
      for (const { sequence } of planned.chunks) sequence.startedAt ??= now
      return planned
    } catch (error) {
      // No fault of one sequence alone.
      for (const sequence of this.#scheduler.sequences) this.#fail(sequence, error)
      return undefined
    }
  }

  async #run({ step, chunks }: PlannedStep): Promise<StepResult | undefined> {
    const wanted = new Set(chunks.map(({ sequence }) => sequence))
    const flight: Flight = { wanted, control: new BigInt64Array(2) }
    this.#flight = flight
    try {
      const result = await this.#runner.run(step, flight.control)
      this.#scheduler.recordCopies()
      this.#count(step, chunks)
      return result
    } catch (error) {
      for (const sequence of [...wanted]) this.#fail(sequence, error)
      return undefined
    } finally {
      this.#flight = undefined
    }
  }

  #count({ tokens }: PlannedStep['step'], chunks: readonly PlacedChunk[]): void {
    this.#counts.steps++
    this.#counts.lastStepTokens = tokens.length
    this.#counts.lastStepSequences = chunks.length
    this.#stepTokens.add(tokens.length)
    this.#stepSequences.add(chunks.length)
    for (const { sequence, from, to, drafted } of chunks) {
      sequence.draftedTokens += drafted.length
      this.#counts.draftedTokens += drafted.length
      const promptEnd = Math.min(to, sequence.request.tokens.length)
      this.#counts.promptTokens += Math.max(0, promptEnd - from)
    }
  }

  /**
   * Gives a sequence what a step of `tokens` has computed for it. A guess counts if it is the token
   * that the sequence has got there meanwhile.
   */
  async #deliver(placed: PlacedChunk, tokens: Int32Array, result: StepResult): Promise<void> {
    const { sequence } = placed
    try {
      for (const part of partsOf(placed)) {
        const hasCome = sequence.tokens[part.from] === tokens[part.tokenRow]
        if (sequence.ended || !hasCome) return
        const usable = this.#usablePart(part, result)
        if (part.drafted.length > 0) this.#countGuesses(sequence, usable.to - usable.from)
        await this.#deliverPart(usable, tokens.length, result)
      }
    } catch (error) {
      this.#fail(sequence, error)
    }
  }

  #countGuesses(sequence: Sequence, accepted: number): void {
    sequence.acceptedTokens += accepted
    this.#counts.acceptedTokens += accepted
  }

  async #deliverPart(chunk: PlacedChunk, stepTokens: number, result: StepResult): Promise<void> {
    const { sequence } = chunk
    this.#scheduler.complete(chunk)
    deliverCaptured(chunk, stepTokens, result)
    for (let position = chunk.logitsFrom; position < chunk.to; position++) {
      await this.#slice.pauseIfOver()
      await this.#ready(sequence)
      if (sequence.ended) return
      const isLast = position === sequence.tokens.length - 1
      const logits = this.#logitsAt(chunk, position, result)
      const token = sequence.request.consumer.next(position, logits)
      sequence.nextLogits = position + 1
      if (isLast) this.#goOn(sequence, token)
    }
  }

  #goOn(sequence: Sequence, token: number | undefined): void {
    if (sequence.request.generates) this.#counts.generatedTokens++
    if (token === undefined) this.#finish(sequence)
    else sequence.append(token)
  }

  /** Delivers one row of logits when its consumer is ready. Others go on meanwhile. */
  #deliverLater(chunk: PlacedChunk, stepTokens: number, result: StepResult): void {
    const { sequence, to } = chunk
    if (sequence.ended) return
    const deliver = async () => {
      this.#scheduler.complete(chunk)
      deliverCaptured(chunk, stepTokens, result)
      const row = (this.#logitsAt(chunk, to - 1, result) as Float32Array).slice()
      // From here on the sequence has nothing to compute, until its next token comes.
      sequence.nextLogits = to
      await this.#ready(sequence)
      if (sequence.ended) return
      this.#goOn(sequence, sequence.request.consumer.next(to - 1, row))
      this.#wake()
    }
    deliver().catch(error => this.#fail(sequence, error))
  }

  /** Waits for the consumer. The event loop runs meanwhile. */
  async #ready({ request }: Sequence): Promise<void> {
    const { pending } = request.consumer
    if (!pending) return
    await pending
    this.#slice.restart()
  }

  /**
   * The chunk; without its last token if that must be computed again, for its whole row of logits.
   */
  #usablePart(chunk: PlacedChunk, result: StepResult): PlacedChunk {
    const { sequence, logitsFrom, to } = chunk
    if (chunk.top === undefined || logitsFrom === to || to < sequence.tokens.length) return chunk
    const top = this.#logitsAt(chunk, to - 1, result) as TopLogits
    if (sequence.request.consumer.suffices?.(top)) return chunk
    sequence.top = undefined
    return { ...chunk, to: to - 1 }
  }

  #logitsAt(chunk: PlacedChunk, position: number, result: StepResult) {
    const { sequence, top, logitRow, logitsFrom } = chunk
    const at = logitRow + position - logitsFrom
    const isScored = position < sequence.scoredTo
    if (top !== undefined && !isScored) return result.top![at]!
    const V = this.#runner.vocabSize
    const row = result.logits!.subarray(at * V, (at + 1) * V)
    return isScored ? { ...result.top![at]!, row } : row
  }

  /** Its report takes the pages that are kept, before it gives up the others. */
  #finish(sequence: Sequence): void {
    const report = sequence.report(false)
    this.#take(sequence)?.resolve(report)
  }

  #fail(sequence: Sequence, error: unknown): void {
    this.#take(sequence)?.reject(error)
  }

  /**
   * Takes a sequence out, if it has not ended yet. A step that no other sequence waits for is
   * cancelled.
   */
  #take(sequence: Sequence): Promised | undefined {
    const promised = this.#promised.get(sequence)
    if (!promised) return undefined
    this.#promised.delete(sequence)
    sequence.ended = true
    this.#scheduler.remove(sequence)
    if (this.#flight?.wanted.delete(sequence) && this.#flight.wanted.size === 0) {
      this.#flight.control[1] = 1n
    }
    return promised
  }
}
