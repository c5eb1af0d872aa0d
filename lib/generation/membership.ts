/** A model's part in a group of ranks. */
import type { Engine } from '../engine/engine.js'
import type { Lockstep } from '../parallel/lockstep.js'
import { Follower } from './follower.js'
import { Leader, type TextStarter } from './leader.js'
import type { TextCalls } from './text-calls.js'

/**
 * The place of a process among those that run one model together.
 *
 * @example
 * ```ts
 * import { loadModel, type ModelRank } from 'moepp'
 *
 * const leads = (place?: ModelRank) => place === undefined || place.rank === 0
 * await using model = await loadModel('npm:moepp-books-7m')
 * if (leads(model.parallel)) console.log((await model.generate('The old man')).text)
 * ```
 */
export interface ModelRank {
  /** Number of this process, from 0. Rank 0 takes the calls. */
  readonly rank: number
  /** Number of processes. */
  readonly size: number
  /** Resolves when rank 0 has closed the model; rejects with ERR_PARALLEL when a rank fails. */
  readonly ended: Promise<void>
}

export class Membership {
  readonly place: ModelRank
  readonly #engine: Engine
  readonly #lockstep: Lockstep
  readonly #leader: Leader | undefined
  #follower: Follower | undefined
  #served: Promise<void> | undefined

  constructor(engine: Engine, lockstep: Lockstep) {
    const { rank, size } = lockstep
    this.place = {
      rank,
      size,
      get ended() {
        return lockstep.ended
      },
    }
    this.#engine = engine
    this.#lockstep = lockstep
    if (rank === 0) this.#leader = new Leader(engine, lockstep)
  }

  /** Starts the calls' texts, at rank 0. */
  get texts(): TextStarter | undefined {
    return this.#leader
  }

  /** Takes part from now on. At another rank than 0 `close` is called at the end. */
  begin(calls: TextCalls, close: () => Promise<void>): void {
    if (this.#leader) {
      this.#lockstep.begin(this.#leader)
      return
    }
    const start = calls.startHandedOut.bind(calls)
    this.#follower = new Follower(this.#lockstep, start, () => this.#engine.stats())
    this.#lockstep.begin(this.#follower)
    this.#served = this.#lockstep.ended.finally(close)
  }

  /** At another rank than 0: until rank 0 closes the model. Rejects with ERR_PARALLEL. */
  get served(): Promise<void> | undefined {
    return this.#served
  }

  /** @throws MoeppError ERR_UNSUPPORTED at another rank than 0 */
  checkLeads(): void {
    if (this.#follower) throw this.#follower.refusal()
  }
}
