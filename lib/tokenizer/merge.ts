/**
 * The merge loop of byte-pair encoding: the symbols that a part of a text ends as.
 *
 * The loop of @huggingface/tokenizers cannot be interrupted: 276 KB of English take it 3.5 s. Cut
 * into words, they take 0.3 s, but the cache of words gets slow. 200,000 x 'a', one at a time, take
 * 0.06 s before those words and 8 s after them, on two cores of an AMD EPYC.
 */

import { MergeQueue } from './merge-queue.js'
import type { MergeTable } from './merge-table.js'
import { STEP, type Steps } from './steps.js'

/** Up to here, looking at each pair before each merge is the fastest. */
export const SHORT = 48

/** Merges in place. The time grows with the square of the number: for SHORT symbols and fewer. */
export function mergeShort(symbols: number[], table: MergeTable): void {
  const entries = pairEntries
  for (let i = 0; i + 1 < symbols.length; i++) entries[i] = table.find(symbols[i]!, symbols[i + 1]!)
  for (let count = symbols.length; ; ) {
    let best = -1
    let bestRank = 0
    for (let i = 0; i + 1 < count; i++) {
      const entry = entries[i]!
      if (entry === -1) continue
      const rank = table.ranks[entry]!
      if (best !== -1 && rank >= bestRank) continue
      best = i
      bestRank = rank
    }
    if (best === -1) {
      symbols.length = count
      return
    }
    symbols[best] = table.merged[entries[best]!]!
    count--
    for (let i = best + 1; i < count; i++) {
      symbols[i] = symbols[i + 1]!
      entries[i] = entries[i + 1]!
    }
    if (best > 0) entries[best - 1] = table.find(symbols[best - 1]!, symbols[best]!)
    if (best + 1 < count) entries[best] = table.find(symbols[best]!, symbols[best + 1]!)
  }
}

/** Of mergeShort: the table's entry of each symbol and the next one. */
const pairEntries = new Int32Array(SHORT)

/**
 * Merges any number of symbols. Symbols stand at the position of their first character, with links
 * to their neighbours. The queue holds a position for each pair that can merge; a pair that has
 * changed since is found by its rank, and passed over.
 */
export function* mergeLong(symbols: readonly number[], table: MergeTable): Steps<number[]> {
  const { length } = symbols
  const { ranks, merged } = table
  const at = new Int32Array(symbols)
  const next = new Int32Array(length)
  const previous = new Int32Array(length)
  /** The table's entry of the symbol here and the next one, or -1. */
  const entries = new Int32Array(length)
  const queue = new MergeQueue()
  const look = (left: number, right: number) => {
    const entry = right < length ? table.find(at[left]!, at[right]!) : -1
    entries[left] = entry
    if (entry !== -1) queue.push(ranks[entry]!, left)
  }
  for (let i = 0; i < length; i++) {
    if (i % STEP === 0) yield
    next[i] = i + 1
    previous[i] = i - 1
    look(i, i + 1)
  }
  for (let left = queue.pop(), steps = 0; left !== -1; left = queue.pop()) {
    if (++steps % STEP === 0) yield
    const entry = entries[left]!
    if (entry === -1 || ranks[entry] !== queue.rank) continue
    const gone = next[left]!
    const right = next[gone]!
    at[left] = merged[entry]!
    entries[gone] = -1
    next[left] = right
    if (right < length) previous[right] = left
    look(left, right)
    const before = previous[left]!
    if (before !== -1) look(before, left)
  }
  const result: number[] = []
  for (let i = 0; i < length; i = next[i]!) {
    if (result.length % STEP === 0) yield
    result.push(at[i]!)
  }
  return result
}
