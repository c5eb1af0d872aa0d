/** Figures of an engine. */

/**
 * Sizes of all steps, in classes that double.
 *
 * @example
 * ```ts
 * import { loadModel, type StepSizes } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const mean = ({ sum }: StepSizes, steps: number) => sum / steps
 * await model.generate(['The old man', 'The sea'], { maxNewTokens: 8 })
 * const { stepSequences, steps } = model.stats()
 * console.log(`${mean(stepSequences, steps).toFixed(1)} texts a step`)
 * ```
 */
export interface StepSizes {
  /** Steps of size 1, of 2, of 3 to 4, of 5 to 8, and so on to the largest. */
  readonly counts: readonly number[]
  /** Sum of all sizes. */
  readonly sum: number
}

/**
 * A model's current state and its counters since it was loaded: plain data, for a log or a
 * monitor. A sequence is one text: each prompt of a batch, and each of its `numReturnSequences`. In
 * a group of ranks they are sums at rank 0, a second old at most; those of steps are its own.
 *
 * @example
 * ```ts
 * import { loadModel, type ModelStats } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const load = ({ kvPagesUsed, kvPagesTotal }: ModelStats) => kvPagesUsed / kvPagesTotal
 * console.log(`${(100 * load(model.stats())).toFixed(1)} % of the KV cache is in use`)
 * ```
 */
export interface ModelStats {
  /** Sequences that wait for room in the KV cache or in a step. */
  readonly waiting: number
  /** Sequences that have pages of the KV cache: they compute a prompt or generate. */
  readonly running: number
  /** Tokens that one page of the KV cache holds. */
  readonly kvPageSize: number
  /** Pages of the KV cache. */
  readonly kvPagesTotal: number
  /** Pages that running sequences hold, or calls of `saveState` and `loadState`. */
  readonly kvPagesUsed: number
  /** Pages that no sequence holds, with tokens that a later prompt may begin with. */
  readonly kvPagesCached: number
  /** Of kvPagesUsed, the pages that several sequences share. */
  readonly kvPagesShared: number
  /** Sequences whose first tokens were in the KV cache when they were admitted. */
  readonly prefixHits: number
  /** Tokens of prompts that did not have to be computed for that reason. */
  readonly prefixTokens: number
  /** Number of times that a sequence gave its pages to another, to be computed again later. */
  readonly preemptions: number
  /**
   * Tokens of prompts that steps have computed. Tokens computed again after a preemption count
   * again.
   */
  readonly promptTokens: number
  /** Tokens that have been generated. Those of a text that was aborted count. */
  readonly generatedTokens: number
  /** Tokens that steps have computed as guesses: the option `speculate`. */
  readonly draftedTokens: number
  /** Guesses that came: each has saved a step of its text. */
  readonly acceptedTokens: number
  /** Steps that have run. */
  readonly steps: number
  /** Tokens that the last step computed; 0 before the first. */
  readonly lastStepTokens: number
  /** Sequences that the last step served; 0 before the first. */
  readonly lastStepSequences: number
  /** Tokens that each step has computed. */
  readonly stepTokens: StepSizes
  /** Sequences that each step has served. */
  readonly stepSequences: StepSizes
  /** Milliseconds since the model was loaded. */
  readonly uptimeMs: number
}

/** Of a group's ranks: the figures of rank 0, with sums of those that can be added. */
export function groupStats(own: ModelStats, others: readonly ModelStats[]): ModelStats {
  const sum = (name: (typeof ADDED)[number]) =>
    others.reduce((all, each) => all + each[name], own[name])
  return { ...own, ...Object.fromEntries(ADDED.map(name => [name, sum(name)])) }
}

/** Steps are the same on all ranks. */
const ADDED = [
  'waiting',
  'running',
  'kvPagesTotal',
  'kvPagesUsed',
  'kvPagesCached',
  'kvPagesShared',
  'prefixHits',
  'prefixTokens',
  'preemptions',
  'promptTokens',
  'generatedTokens',
  'draftedTokens',
  'acceptedTokens',
] as const satisfies (keyof ModelStats)[]

/** Counts sizes of steps. */
export class SizeCounter {
  readonly #counts: number[] = []
  #sum = 0

  /** A step has had the size, an integer >= 1. */
  add(size: number): void {
    const doublings = 32 - Math.clz32(size - 1)
    while (this.#counts.length <= doublings) this.#counts.push(0)
    this.#counts[doublings]!++
    this.#sum += size
  }

  get sizes(): StepSizes {
    return { counts: [...this.#counts], sum: this.#sum }
  }
}
