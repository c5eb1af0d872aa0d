/**
 * Python's random.Random of an integer seed: the Mersenne Twister MT19937 (Matsumoto and Nishimura
 * 1998, with the initialisation of 2002), and the draws that CPython makes of it. The harness
 * chooses its few-shot examples and its bootstrap samples so.
 */

/** Words of the state, and the distance of the word that each one is mixed with. */
const N = 624
const M = 397

export class PythonRandom {
  readonly #state = new Uint32Array(N)
  #next = N

  /** `seed` is an integer from 0 to 2^32 - 1. */
  constructor(seed: number) {
    const state = this.#state
    state[0] = 19650218
    for (let i = 1; i < N; i++) state[i] = this.#product(i, 1812433253) + i
    // The reference's init_by_array for the key [seed].
    for (let k = 0, i = 1; k < N; k++, i = this.#wrapped(i))
      state[i] = (state[i]! ^ this.#product(i, 1664525)) + seed
    for (let k = 1, i = 2; k < N; k++, i = this.#wrapped(i))
      state[i] = (state[i]! ^ this.#product(i, 1566083941)) - i
    state[0] = 0x80000000
  }

  /** From 0 to 1, with 53 random bits. */
  random(): number {
    return ((this.#word() >>> 5) * 0x4000000 + (this.#word() >>> 6)) / 0x20000000000000
  }

  /** `count` different items in random order; `count` is at most their number. */
  sample<T>(items: readonly T[], count: number): T[] {
    // A list costs less than a set up to this size.
    const most = 21 + (count > 5 ? 4 ** Math.ceil(Math.log(count * 3) / Math.log(4)) : 0)
    return items.length <= most ? this.#shuffled(items, count) : this.#distinct(items, count)
  }

  #shuffled<T>(items: readonly T[], count: number): T[] {
    const pool = [...items]
    return Array.from({ length: count }, (_, i) => {
      const at = this.#below(pool.length - i)
      const item = pool[at]!
      pool[at] = pool[pool.length - i - 1]!
      return item
    })
  }

  #distinct<T>(items: readonly T[], count: number): T[] {
    const taken = new Set<number>()
    while (taken.size < count) taken.add(this.#below(items.length))
    return Array.from(taken, at => items[at]!)
  }

  /** An integer from 0 to `n` - 1; `n` is at most 2^32 - 1. */
  #below(n: number): number {
    const shift = Math.clz32(n)
    for (;;) {
      const drawn = this.#word() >>> shift
      if (drawn < n) return drawn
    }
  }

  #word(): number {
    if (this.#next === N) this.#refill()
    let y = this.#state[this.#next++]!
    y ^= y >>> 11
    y ^= (y << 7) & 0x9d2c5680
    y ^= (y << 15) & 0xefc60000
    return (y ^ (y >>> 18)) >>> 0
  }

  #refill(): void {
    const state = this.#state
    for (let i = 0; i < N; i++) {
      const y = (state[i]! & 0x80000000) | (state[(i + 1) % N]! & 0x7fffffff)
      state[i] = state[(i + M) % N]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0)
    }
    this.#next = 0
  }

  /** The word before word `i`, mixed and multiplied, modulo 2^32. */
  #product(i: number, factor: number): number {
    const before = this.#state[i - 1]!
    return Math.imul(before ^ (before >>> 30), factor)
  }

  /** The index after `i`; the last word goes to the front, and the next index is 1. */
  #wrapped(i: number): number {
    if (i + 1 < N) return i + 1
    this.#state[0] = this.#state[N - 1]!
    return 1
  }
}
