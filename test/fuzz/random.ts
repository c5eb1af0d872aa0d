/** Numbers that a seed decides: an input is its seed, on every machine. */

export class Random {
  #state: number

  constructor(seed: number) {
    // Mixed, because seeds follow one another. Source: the finaliser of MurmurHash3.
    let mixed = (seed ^ Math.floor(seed / 2 ** 32)) | 0
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
    this.#state = mixed ^ (mixed >>> 16)
  }

  /** From 0 up to `end`, which is at most 2^32. Source: mulberry32. */
  below(end: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let x = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    x ^= x + Math.imul(x ^ (x >>> 7), 61 | x)
    return ((x ^ (x >>> 14)) >>> 0) % end
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.below(times) === 0
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!
  }

  /** Mostly small: each further one is half as likely. At most `most`. */
  few(most: number): number {
    let count = 1
    while (count < most && this.once(2)) count++
    return count
  }
}
