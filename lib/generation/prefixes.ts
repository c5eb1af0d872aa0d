/** The prompts that ranks have computed, page by page, for the choice of a rank alone. */

/** Pages that a rank's KV cache has held lately. */
export class Prefixes {
  readonly #pageSize: number
  readonly #most: number
  /** Of each page that was computed, with all before it; the oldest first. */
  readonly #keys = new Set<number>()

  /** @param most pages of the KV cache */
  constructor(pageSize: number, most: number) {
    this.#pageSize = pageSize
    this.#most = most
  }

  /** Tokens that the text begins with, and that are likely to be in the cache. */
  shared(tokens: readonly number[]): number {
    let pages = 0
    for (const key of this.#keysOf(tokens)) {
      if (!this.#keys.has(key)) break
      pages++
    }
    return pages * this.#pageSize
  }

  add(tokens: readonly number[]): void {
    for (const key of this.#keysOf(tokens)) {
      this.#keys.delete(key)
      this.#keys.add(key)
    }
    for (const key of this.#keys) {
      if (this.#keys.size <= this.#most) break
      this.#keys.delete(key)
    }
  }

  /**
   * A number of 52 bits for each whole page and the text before it. Two texts of one number would
   * cost time, and nothing else.
   */
  *#keysOf(tokens: readonly number[]): Generator<number> {
    let [a, b] = [0x811c9dc5, 0x2545f491]
    for (const [i, token] of tokens.entries()) {
      a = Math.imul(a ^ token, 0x01000193)
      b = Math.imul(b + token, 0x5bd1e995) ^ (b >>> 15)
      if ((i + 1) % this.#pageSize === 0) yield (a >>> 0) * 2 ** 20 + (b >>> 12)
    }
  }
}
