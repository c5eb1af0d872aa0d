/** Rank 0 of a group: hands texts out to all ranks, and gives back what they make of them. */
import type { Engine } from '../engine/engine.js'
import { groupStats, type ModelStats } from '../engine/stats.js'
import type { MoeppError } from '../errors.js'
import type { Lockstep, Post } from '../parallel/lockstep.js'
import type { Job } from './job.js'
import { type Answer, errorOf, type Order } from './letters.js'
import { Prefixes } from './prefixes.js'
import type { GenerateChunk, GenerateResult } from './results.js'
import type { TextGeneration } from './text-generation.js'

/** Starts a text somewhere. */
export interface TextStarter {
  start(text: TextGeneration): Job<GenerateResult>
  /** Of all ranks, if there are several. */
  stats?(): ModelStats
  /** The KV cache of this process has got these tokens. */
  holds?(tokens: readonly number[]): void
}

/** A text at another rank. */
interface Away {
  readonly rank: number
  readonly onChunk: ((chunk: GenerateChunk) => void) | undefined
  isCancelled: boolean
  resolve(result: GenerateResult): void
  reject(error: Error): void
}

/** New tokens that count for a rank's load: most texts end before their limit. */
const EXPECTED_TOKENS = 256

export class Leader implements TextStarter, Post {
  readonly #engine: Engine
  readonly #lockstep: Lockstep
  readonly #away = new Map<number, Away>()
  #nextId = 0
  /** Of the other ranks, as they said last. */
  readonly #stats = new Map<number, ModelStats>()
  /** Of each rank: tokens that are to be computed, and prompts that were. */
  readonly #ranks: { load: number; readonly prefixes: Prefixes }[]

  constructor(engine: Engine, lockstep: Lockstep) {
    this.#engine = engine
    this.#lockstep = lockstep
    const { kvPageSize, kvPagesTotal } = engine.stats()
    this.#ranks = Array.from({ length: lockstep.size }, () => ({
      load: 0,
      prefixes: new Prefixes(kvPageSize, kvPagesTotal),
    }))
  }

  get expects(): boolean {
    return this.#away.size > 0
  }

  /** At the rank that is done with it first. Functions of the caller's run at rank 0. */
  start(text: TextGeneration): Job<GenerateResult> {
    const { portable, promptIds } = text
    const { rank, cost } = portable ? this.#choose(text) : { rank: 0, cost: this.#cost(text, 0) }
    const chosen = this.#ranks[rank]!
    chosen.load += cost
    chosen.prefixes.add(promptIds)
    const { done, cancel } =
      portable && rank > 0 ? this.#sendAway(rank, text) : text.start(this.#engine)
    const settle = () => {
      chosen.load -= cost
    }
    done.then(({ tokenIds }) => {
      settle()
      chosen.prefixes.add([...promptIds, ...tokenIds])
    }, settle)
    return { done, cancel }
  }

  holds(tokens: readonly number[]): void {
    this.#ranks[0]!.prefixes.add(tokens)
  }

  receive(letters: readonly unknown[], from: number): void {
    for (const letter of letters as readonly Answer[]) {
      if (letter.kind === 'stats') {
        this.#stats.set(from, letter.stats)
        continue
      }
      const away = this.#away.get(letter.id)
      if (!away) continue
      if (letter.kind === 'chunk') {
        if (!away.isCancelled) away.onChunk?.(letter.chunk)
        continue
      }
      this.#away.delete(letter.id)
      if (letter.kind === 'result') away.resolve(letter.result)
      else away.reject(errorOf(letter.failure))
    }
  }

  /** Of all ranks together. */
  stats(): ModelStats {
    return groupStats(this.#engine.stats(), [...this.#stats.values()])
  }

  fail(error: MoeppError): void {
    for (const away of this.#away.values()) away.reject(error)
    this.#away.clear()
  }

  /** The rank with the least to do, this text included; the lowest of equal ones. */
  #choose(text: TextGeneration): { rank: number; cost: number } {
    const costs = this.#ranks.map((_, rank) => this.#cost(text, rank))
    const totals = costs.map((cost, rank) => cost + this.#ranks[rank]!.load)
    const rank = totals.indexOf(Math.min(...totals))
    return { rank, cost: costs[rank]! }
  }

  #cost({ promptIds, maxNewTokens }: TextGeneration, rank: number): number {
    const shared = this.#ranks[rank]!.prefixes.shared(promptIds)
    return promptIds.length - shared + Math.min(maxNewTokens, EXPECTED_TOKENS)
  }

  #sendAway(rank: number, text: TextGeneration): Job<GenerateResult> {
    const id = this.#nextId++
    const { onChunk } = text
    const send = (order: Order) => this.#lockstep.send(rank, order)
    const done = new Promise<GenerateResult>((resolve, reject) => {
      if (this.#lockstep.end) return reject(this.#lockstep.end)
      this.#away.set(id, { rank, onChunk, isCancelled: false, resolve, reject })
      send({ kind: 'start', id, text: text.portable!, tells: onChunk !== undefined })
    })
    return {
      done: done.then(result => {
        text.noteLength(result)
        return result
      }),
      cancel: () => {
        const away = this.#away.get(id)
        if (!away || away.isCancelled) return
        away.isCancelled = true
        send({ kind: 'cancel', id })
      },
    }
  }
}
