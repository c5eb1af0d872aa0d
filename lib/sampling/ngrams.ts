/**
 * The tokens that would complete an n-gram that a sequence already holds
 * (NoRepeatNGramLogitsProcessor of Hugging Face).
 *
 * A hash table leads from n - 1 tokens to the distinct tokens that followed them. Appending a token
 * and asking for the continuations both cost O(n), whatever the length of the sequence.
 */

interface Prefix {
  /** The end of its first occurrence in the sequence. */
  readonly end: number
  readonly followers: Set<number>
}

const NONE: ReadonlySet<number> = new Set()

export class NgramIndex {
  readonly #prefixLength: number
  readonly #tokens: number[] = []
  /** Hash of n - 1 tokens -> the prefixes that have it; nearly always one. */
  readonly #prefixes = new Map<number, Prefix[]>()

  /** @param size n, at least 1 */
  constructor(size: number) {
    this.#prefixLength = size - 1
  }

  append(tokenId: number): void {
    if (this.#tokens.length >= this.#prefixLength) {
      const hash = this.#hash()
      let prefix = this.#find(hash)
      if (prefix === undefined) {
        prefix = { end: this.#tokens.length, followers: new Set() }
        const bucket = this.#prefixes.get(hash)
        if (bucket === undefined) this.#prefixes.set(hash, [prefix])
        else bucket.push(prefix)
      }
      prefix.followers.add(tokenId)
    }
    this.#tokens.push(tokenId)
  }

  /** The distinct tokens that followed an earlier occurrence of the last n - 1 tokens. */
  continuations(): ReadonlySet<number> {
    if (this.#tokens.length < this.#prefixLength) return NONE
    return this.#find(this.#hash())?.followers ?? NONE
  }

  #hash(): number {
    return hashOfLast(this.#tokens, this.#prefixLength)
  }

  /** The entry of the last n - 1 tokens. */
  #find(hash: number): Prefix | undefined {
    return this.#prefixes.get(hash)?.find(prefix => {
      for (let back = 1; back <= this.#prefixLength; back++) {
        if (this.#tokens[prefix.end - back] !== this.#tokens[this.#tokens.length - back])
          return false
      }
      return true
    })
  }
}

/** FNV-1a over the last `count` tokens. */
export function hashOfLast(tokens: readonly number[], count: number): number {
  let hash = 0x811c9dc5
  for (let i = tokens.length - count; i < tokens.length; i++)
    hash = Math.imul(hash ^ tokens[i]!, 0x01000193)
  return hash
}
