/**
 * A runner without a model, whose logits are a hash of the whole text up to a token, read back from
 * its pages.
 *
 * Each place of a page holds what keys of a deep layer depend on: the token, its keys' variant, its
 * position and everything before it. A page that was computed under another text, written by two at
 * once, or never written is found out.
 */

import { setImmediate } from 'node:timers/promises'
import type { Runner, Step, StepResult } from '../../lib/engine/runner.js'
import { MoeppError } from '../../lib/errors.js'
import type { ExpertRuns } from '../../lib/program/moe-ops.js'
import { logSumExp, type TopLogits } from '../../lib/sampling/sampler.js'

export interface FakeOptions {
  vocabSize?: number
  contextLength?: number
  pageSize?: number
  pages?: number
  maxStepTokens?: number
  maxLogitRows?: number
  /**
   * Lengths up to this share one variant of keys, longer ones have one each, as dynamic RoPE does.
   */
  sharedVariant?: number
  /** A step waits for this before it computes. */
  delay?: (step: Step) => Promise<unknown>
  /** The number of largest logits that it can return. */
  topLogits?: number
  /** Stands for all weights. */
  weights?: string
  /** Changes the logits of a token; `token` is the text's last. */
  shape?: (logits: Float32Array, token: number, position: number) => void
}

interface Place {
  readonly token: number
  readonly keyVariant: number
  /** Hash of everything up to this token. */
  readonly hash: number
}

/** A place that was never written. */
const NOTHING: Place = { token: 0, keyVariant: 0, hash: 0 }

export const FAKE_EXPERTS = 6
const FAKE_RUNS: ExpertRuns = [
  { kind: 'ffn', count: 2 },
  { kind: 'constant', count: 2 },
  { kind: 'copy', count: 1 },
  { kind: 'zero', count: 1 },
]

export class FakeRunner implements Runner {
  readonly device = { name: 'fake', model: 'none', isa: 'none' }
  readonly vocabSize: number
  readonly topLogits: number
  readonly reach = 0
  readonly contextLength: number
  readonly pageSize: number
  readonly pages: number
  readonly maxStepTokens: number
  readonly maxLogitRows: number
  readonly draftingTokens = 32
  readonly captureNames: readonly string[]
  readonly cache = { layers: 1, kvHeads: 1, keyDim: 2, valueDim: 2, dtype: 'f32' } as const
  readonly routers = [0, 1].map(layer => ({
    layer,
    topK: 2,
    experts: FAKE_RUNS,
    indices: `layers.${layer}.expert_indices`,
    weights: `layers.${layer}.expert_weights`,
    logits: `layers.${layer}.router_logits`,
    inputScale: 1,
    normStd: 0,
    masked: false,
  }))
  /** Every step that was run. */
  readonly steps: Step[] = []
  copies = 0
  closed = false
  /** The next steps fail with this. */
  failures: Error[] = []
  #isRunning = false
  readonly #options: FakeOptions
  readonly #places: (Place | undefined)[]

  constructor(options: FakeOptions = {}) {
    this.#options = options
    this.vocabSize = options.vocabSize ?? 50
    this.topLogits = options.topLogits ?? Math.min(this.vocabSize, 20)
    this.contextLength = options.contextLength ?? 64
    this.pageSize = options.pageSize ?? 4
    this.pages = options.pages ?? 64
    this.maxStepTokens = options.maxStepTokens ?? 16
    this.maxLogitRows = options.maxLogitRows ?? Math.max(2, this.maxStepTokens)
    this.captureNames = [0, 1].flatMap(layer => [
      `layers.${layer}.router_logits`,
      `layers.${layer}.expert_indices`,
      `layers.${layer}.expert_weights`,
    ])
    this.#places = new Array(this.pages * this.pageSize).fill(undefined)
  }

  get computedTokens(): number {
    return this.steps.reduce((n, step) => n + step.tokens.length, 0)
  }

  async run(step: Step, cancel?: BigInt64Array): Promise<StepResult> {
    if (this.closed) throw new MoeppError('ERR_CLOSED', 'closed')
    if (this.#isRunning) throw new MoeppError('ERR_BUSY', 'a second run')
    this.#isRunning = true
    try {
      this.#check(step)
      this.steps.push(step)
      await (this.#options.delay?.(step) ?? setImmediate())
      if (cancel?.[1] === 1n) throw new MoeppError('ERR_ABORTED', 'the run was cancelled')
      const failure = this.failures.shift()
      if (failure) throw failure
      return this.#compute(step)
    } catch (error) {
      this.#spoil(step)
      throw error
    } finally {
      this.#isRunning = false
    }
  }

  keyVariant(length: number): number {
    return length > (this.#options.sharedVariant ?? Number.POSITIVE_INFINITY) ? length : 0
  }

  /** Each place as keys [token, variant] and values [upper, lower half of the hash]. */
  readPage(_: number, page: number): Float32Array {
    const S = this.#checkIdle(page)
    const values = new Float32Array(4 * S)
    for (let s = 0; s < S; s++) {
      const { token, keyVariant, hash } = this.#places[page * S + s] ?? NOTHING
      values.set([token, keyVariant], 2 * s)
      values.set([hash >>> 16, hash & 0xffff], 2 * (S + s))
    }
    return values
  }

  writePage(_: number, page: number, values: Float32Array): void {
    const S = this.#checkIdle(page)
    for (let s = 0; s < S; s++) {
      const [token, keyVariant] = values.subarray(2 * s)
      const [upper, lower] = values.subarray(2 * (S + s))
      const hash = (upper! * 2 ** 16 + lower!) >>> 0
      this.#places[page * S + s] =
        hash === 0 ? undefined : { token: token!, keyVariant: keyVariant!, hash }
    }
  }

  async fingerprint(): Promise<Record<string, string>> {
    return { weights: this.#options.weights ?? 'fake' }
  }

  /** Tokens of a page. */
  #checkIdle(page: number): number {
    if (this.#isRunning) throw new Error('a page is read or written while a step runs')
    if (this.closed) throw new MoeppError('ERR_CLOSED', 'closed')
    if (!(page >= 0 && page < this.pages)) throw new Error(`there is no page ${page}`)
    return this.pageSize
  }

  async close(): Promise<void> {
    if (this.#isRunning) throw new Error('close while a step runs')
    this.closed = true
  }

  #check(step: Step): void {
    const { tokens, positions, sequenceStarts, pageTable, keyVariants, logitRows } = step
    const B = sequenceStarts.length - 1
    const T = tokens.length
    const isSound =
      T > 0 &&
      T <= this.maxStepTokens &&
      positions.length === T &&
      sequenceStarts[0] === 0 &&
      sequenceStarts[B] === T &&
      keyVariants.length === B &&
      pageTable.length % B === 0 &&
      pageTable.every(page => page >= 0 && page < this.pages) &&
      this.#areCopies(step.copies) &&
      tokens.every(token => token >= 0 && token < this.vocabSize) &&
      positions.every(position => position >= 0 && position < this.contextLength) &&
      logitRows.length <= this.maxLogitRows &&
      logitRows.every((row, i) => row < T && (i === 0 || row > logitRows[i - 1]!)) &&
      step.capture.every(name => this.captureNames.includes(name)) &&
      (step.wanted.whole || step.wanted.top) === logitRows.length > 0
    if (!isSound) throw new Error('the step contradicts itself')
  }

  /** Pairs of pages. No page is written twice, or read after it is written. */
  #areCopies(copies: Int32Array): boolean {
    const written = copies.filter((_, i) => i % 2 === 1)
    const read = copies.filter((_, i) => i % 2 === 0)
    return (
      written.length === read.length &&
      new Set(written).size === written.length &&
      read.every(page => !written.includes(page)) &&
      copies.every(page => page >= 0 && page < this.pages)
    )
  }

  #copyPages({ copies }: Step): void {
    for (let i = 0; i < copies.length; i += 2) {
      this.copies++
      const from = copies[i]! * this.pageSize
      const to = copies[i + 1]! * this.pageSize
      for (let s = 0; s < this.pageSize; s++) this.#places[to + s] = this.#places[from + s]
    }
  }

  #compute(step: Step): StepResult {
    this.#copyPages(step)
    const { tokens, positions, sequenceStarts, logitRows } = step
    const hashes: number[] = []
    const written = new Set<number>()
    for (let b = 0; b < sequenceStarts.length - 1; b++) {
      for (let t = sequenceStarts[b]!; t < sequenceStarts[b + 1]!; t++) {
        const at = this.#placeOf(step, b, positions[t]!)
        if (written.has(at)) throw new Error(`place ${at} is written twice in a step`)
        written.add(at)
        const keyVariant = step.keyVariants[b]!
        const hash = mix(this.#prefixHash(step, b, positions[t]!), tokens[t]!, keyVariant)
        this.#places[at] = { token: tokens[t]!, keyVariant, hash }
        hashes.push(hash)
      }
    }
    const logits = new Float32Array(logitRows.length * this.vocabSize)
    logitRows.forEach((t, r) => {
      const row = logits.subarray(r * this.vocabSize, (r + 1) * this.vocabSize)
      for (let v = 0; v < row.length; v++) row[v] = (mix(hashes[t]!, v, 0) / 2 ** 32) * 8
      this.#options.shape?.(row, tokens[t]!, positions[t]!)
    })
    const { wanted } = step
    return {
      ...(wanted.whole && { logits }),
      ...(wanted.top && { top: topRows(logits, this.vocabSize, this.topLogits, wanted.logSumExp) }),
      captured: Object.fromEntries(step.capture.map(name => [name, capture(name, hashes)])),
    }
  }

  /** A step that ends early may have written any part of what it was to write. */
  #spoil(step: Step): void {
    const bad = { token: -1, keyVariant: -1, hash: -1 }
    for (let i = 1; i < step.copies.length; i += 2) {
      const page = step.copies[i]! * this.pageSize
      this.#places.fill(bad, page, page + this.pageSize)
    }
    for (let b = 0; b < step.sequenceStarts.length - 1; b++) {
      for (let t = step.sequenceStarts[b]!; t < step.sequenceStarts[b + 1]!; t++) {
        this.#places[this.#placeOf(step, b, step.positions[t]!)] = bad
      }
    }
  }

  #placeOf({ pageTable, sequenceStarts }: Step, b: number, position: number): number {
    const columns = pageTable.length / (sequenceStarts.length - 1)
    const page = pageTable[b * columns + Math.floor(position / this.pageSize)]!
    return page * this.pageSize + (position % this.pageSize)
  }

  /** Hash of the text before a position, which every place of its pages must agree with. */
  #prefixHash(step: Step, b: number, length: number): number {
    let hash = 7
    for (let position = 0; position < length; position++) {
      const place = this.#places[this.#placeOf(step, b, position)]
      if (!place) throw new Error(`position ${position} was never computed`)
      hash = mix(hash, place.token, place.keyVariant)
      if (hash !== place.hash)
        throw new Error(`position ${position} was computed after another text`)
    }
    return hash
  }
}

export function topRows(
  logits: Float32Array,
  vocabSize: number,
  count: number,
  withSum: boolean,
): TopLogits[] {
  return Array.from({ length: logits.length / vocabSize }, (_, r) => {
    const row = logits.subarray(r * vocabSize, (r + 1) * vocabSize)
    return topOf(row, count, withSum)
  })
}

/** The native op in plain words: NaN first, ties to the lower id. */
export function topOf(row: Float32Array, count: number, withSum: boolean): TopLogits {
  const rank = (id: number) => (Number.isNaN(row[id]) ? Number.POSITIVE_INFINITY : row[id]!)
  const nan = (id: number) => Number(Number.isNaN(row[id]))
  const order = Array.from(row.keys()).sort(
    (a, b) => nan(b) - nan(a) || (rank(a) === rank(b) ? a - b : rank(b) - rank(a)),
  )
  const ids = Int32Array.from(order.slice(0, count))
  const logits = Float32Array.from(ids, id => row[id]!)
  return { vocabSize: row.length, logits, ids, ...(withSum && { logSumExp: logSumExp(row) }) }
}

function capture(name: string, hashes: readonly number[]): Int32Array | Float32Array {
  const layer = Number(name.split('.')[1])
  if (name.endsWith('router_logits')) {
    return Float32Array.from(
      hashes.flatMap(hash => range(FAKE_EXPERTS, e => mix(hash, layer, e) / 2 ** 32)),
    )
  }
  if (name.endsWith('expert_indices')) {
    return Int32Array.from(
      hashes.flatMap(hash => range(2, k => mix(hash, layer, 10 + k) % FAKE_EXPERTS)),
    )
  }
  // Some weights are 0, as those of a dropped zero expert.
  return Float32Array.from(
    hashes.flatMap(hash => range(2, k => (mix(hash, layer, 20 + k) % 3) / 2)),
  )
}

function range(count: number, value: (i: number) => number): number[] {
  return Array.from({ length: count }, (_, i) => value(i))
}

export function mix(a: number, b: number, c: number): number {
  let hash = Math.imul(a ^ 0x9e3779b9, 0x85ebca6b)
  hash = Math.imul((hash ^ (hash >>> 13)) + b, 0xc2b2ae35)
  hash = Math.imul((hash ^ (hash >>> 16)) + c, 0x27d4eb2f)
  return (hash ^ (hash >>> 15)) >>> 0
}
