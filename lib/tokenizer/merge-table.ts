/** Pairs of symbols and what they merge into. */

export interface SymbolMerge {
  readonly left: number
  readonly right: number
  readonly merged: number
  /** The lowest goes first; of equal ones, the leftmost in the text. */
  readonly rank: number
}

/**
 * A hash table over typed arrays: one lookup takes a few nanoseconds, and a lookup for each
 * character is what encoding costs most.
 */
export class MergeTable {
  /** By entry. */
  readonly ranks: Int32Array
  readonly merged: Int32Array
  readonly #lefts: Int32Array
  readonly #rights: Int32Array
  /** Entry + 1, or 0 for none. A power of two of them, at least half of them empty. */
  readonly #slots: Int32Array
  readonly #shift: number
  // Random and odd, so that no file can hold pairs that all fall into one slot.
  readonly #leftFactor = Math.floor(Math.random() * 2 ** 32) | 1
  readonly #rightFactor = Math.floor(Math.random() * 2 ** 32) | 1

  /** Of equal pairs, the last one counts. */
  constructor(merges: readonly SymbolMerge[]) {
    const bits = Math.max(4, Math.ceil(Math.log2(merges.length * 2 + 1)))
    this.#slots = new Int32Array(2 ** bits)
    this.#shift = 32 - bits
    this.ranks = new Int32Array(merges.length)
    this.merged = new Int32Array(merges.length)
    this.#lefts = new Int32Array(merges.length)
    this.#rights = new Int32Array(merges.length)
    for (const [entry, { left, right, merged, rank }] of merges.entries()) {
      this.#lefts[entry] = left
      this.#rights[entry] = right
      this.merged[entry] = merged
      this.ranks[entry] = rank
      this.#slots[this.#slotOf(left, right)] = entry + 1
    }
  }

  /** The entry of a pair, or -1. */
  find(left: number, right: number): number {
    return this.#slots[this.#slotOf(left, right)]! - 1
  }

  /** The slot that holds the pair, or the empty one where it would go. */
  #slotOf(left: number, right: number): number {
    const mask = this.#slots.length - 1
    let slot =
      (Math.imul(left, this.#leftFactor) + Math.imul(right, this.#rightFactor)) >>> this.#shift
    for (;;) {
      const entry = this.#slots[slot]! - 1
      if (entry === -1) return slot
      if (this.#lefts[entry] === left && this.#rights[entry] === right) return slot
      slot = (slot + 1) & mask
    }
  }
}
