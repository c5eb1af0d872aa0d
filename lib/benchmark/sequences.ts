/**
 * Sequences of fixed tokens, computed step by step straight on the runner: no sampling, no
 * scheduling, so that what is measured is the step. Token p of sequence b is always the same, so
 * routing is too, whatever the dtype.
 */
import type { Runner, Step, StepResult } from '../engine/runner.js'
import { ffnMask, type StepRouting } from '../program/model-spec.js'

/**
 * A stretch of one sequence in a step; the logits of its last token are wanted if `logits` is set.
 */
interface Part {
  readonly sequence: number
  readonly from: number
  readonly to: number
  /** Of the whole text, for the variant of its keys. */
  readonly length: number
  readonly logits: boolean
}

export class Sequences {
  readonly #runner: Runner
  /**
   * Of each sequence, and where the next would begin: pages lie close together, since the system
   * hands out 2 MB at once.
   */
  readonly #firstPages: number[] = [0]
  /** Tokens of each sequence that the cache holds. */
  readonly #cached = new Map<number, number>()

  readonly #tokenOf: (sequence: number, position: number) => number

  /** Sequence b may grow to `maxTokens[b]`. `tokenOf`: its tokens; by default as if at random. */
  constructor(
    runner: Runner,
    maxTokens: readonly number[],
    tokenOf = (sequence: number, position: number) => tokenAt(sequence, position, runner.vocabSize),
  ) {
    this.#runner = runner
    this.#tokenOf = tokenOf
    for (const tokens of maxTokens) {
      this.#firstPages.push(this.#firstPages.at(-1)! + Math.ceil(tokens / runner.pageSize))
    }
  }

  /**
   * Computes the first `tokens` tokens of each of `batch` sequences, in steps of as many tokens as
   * the engine takes.
   */
  async prefill(batch: number, tokens: number, signal?: AbortSignal): Promise<void> {
    for (const parts of this.#prefillSteps(batch, tokens)) await this.#run(parts, [], signal)
    for (let b = 0; b < batch; b++) this.#cached.set(b, Math.max(tokens, this.#cached.get(b) ?? 0))
  }

  /**
   * Makes sure that the cache holds `context` tokens of each sequence, and no more than it must
   * compute.
   */
  async fill(batch: number, context: number, signal?: AbortSignal): Promise<void> {
    const filled = Math.min(...Array.from({ length: batch }, (_, b) => this.#cached.get(b) ?? 0))
    if (filled < context) await this.prefill(batch, context, signal)
  }

  /**
   * Computes `tokens` more tokens of each sequence after `context`, one of each in a step.
   * `onLikeliest` gets the likeliest next token of each sequence after every step.
   */
  async decode(
    batch: number,
    context: number,
    tokens: number,
    signal?: AbortSignal,
    onLikeliest?: (tokens: readonly number[]) => void,
  ): Promise<void> {
    for (let i = 0; i < tokens; i++) {
      const { top = [] } = await this.#run(decodeParts(batch, context + i), [], signal)
      onLikeliest?.(top.map(({ ids }) => ids[0]!))
    }
  }

  /** As prefill, and tells where the tokens went. */
  async prefillRouting(batch: number, tokens: number, signal?: AbortSignal): Promise<StepRouting> {
    const routings: StepRouting[] = []
    for (const parts of this.#prefillSteps(batch, tokens))
      routings.push(await this.#routing(parts, signal))
    return {
      picks: routings.reduce((sum, { picks }) => sum + picks, 0),
      touched: routings.reduce((sum, { touched }) => sum + touched, 0),
    }
  }

  /** As decode, and tells where the tokens of each step went. */
  async decodeRouting(
    batch: number,
    context: number,
    tokens: number,
    signal?: AbortSignal,
  ): Promise<StepRouting[]> {
    const routings: StepRouting[] = []
    for (let i = 0; i < tokens; i++)
      routings.push(await this.#routing(decodeParts(batch, context + i), signal))
    return routings
  }

  *#prefillSteps(batch: number, tokens: number): Generator<Part[]> {
    let parts: Part[] = []
    let room = this.#runner.maxStepTokens
    for (let sequence = 0; sequence < batch; sequence++) {
      for (let from = 0; from < tokens; ) {
        const to = Math.min(tokens, from + room)
        parts.push({ sequence, from, to, length: tokens, logits: to === tokens })
        room -= to - from
        from = to
        if (room > 0) continue
        yield parts
        parts = []
        room = this.#runner.maxStepTokens
      }
    }
    if (parts.length > 0) yield parts
  }

  async #routing(parts: readonly Part[], signal?: AbortSignal): Promise<StepRouting> {
    const { routers } = this.#runner
    const names = routers.map(({ indices }) => indices)
    const { captured } = await this.#run(parts, names, signal)
    let picks = 0
    let touched = 0
    for (const { indices, experts } of routers) {
      const isFfn = ffnMask(experts)
      const ffn = (captured[indices] as Int32Array).filter(expert => isFfn[expert])
      picks += ffn.length
      touched += new Set(ffn).size
    }
    return { picks, touched }
  }

  #run(
    parts: readonly Part[],
    capture: readonly string[],
    signal?: AbortSignal,
  ): Promise<StepResult> {
    signal?.throwIfAborted()
    return this.#runner.run(this.#step(parts, capture))
  }

  #step(parts: readonly Part[], capture: readonly string[]): Step {
    const starts = [0]
    for (const { from, to } of parts) starts.push(starts.at(-1)! + to - from)
    const tokens = new Int32Array(starts.at(-1)!)
    const positions = new Int32Array(tokens.length)
    const { reach } = this.#runner
    const preceding = new Int32Array(tokens.length * reach)
    const pages = Math.max(...parts.map(({ to }) => Math.ceil(to / this.#runner.pageSize)))
    const pageTable = new Int32Array(parts.length * pages)
    for (const [i, { sequence, from, to }] of parts.entries()) {
      for (let p = from; p < to; p++) {
        const t = starts[i]! + p - from
        tokens[t] = this.#tokenOf(sequence, p)
        positions[t] = p
        for (let d = 1; d <= Math.min(reach, p); d++)
          preceding[t * reach + d - 1] = this.#tokenOf(sequence, p - d)
      }
      const first = this.#firstPages[sequence]!
      for (let page = 0; page < Math.min(pages, this.#firstPages[sequence + 1]! - first); page++) {
        pageTable[i * pages + page] = first + page
      }
    }
    const logitRows = parts.flatMap(({ logits }, i) => (logits ? [starts[i + 1]! - 1] : []))
    return {
      tokens,
      positions,
      preceding,
      sequenceStarts: Int32Array.from(starts),
      pageTable,
      keyVariants: Int32Array.from(parts, ({ length }) => this.#runner.keyVariant(length)),
      copies: new Int32Array(),
      logitRows: Int32Array.from(logitRows),
      wanted: GREEDY,
      capture,
    }
  }
}

/** The logits that greedy decoding asks for. */
const GREEDY = { whole: false, top: true, logSumExp: false }

function decodeParts(batch: number, position: number): Part[] {
  return Array.from({ length: batch }, (_, sequence) => ({
    sequence,
    from: position,
    to: position + 1,
    length: position + 1,
    logits: true,
  }))
}

/**
 * A token of the vocabulary for each place of each sequence, as if drawn at random: the finaliser
 * of MurmurHash3.
 */
export function tokenAt(sequence: number, position: number, vocabSize: number): number {
  let h = (sequence + 1) * 0x10001 + position
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return ((h ^ (h >>> 16)) >>> 0) % vocabSize
}
