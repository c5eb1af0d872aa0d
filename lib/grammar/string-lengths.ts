/**
 * The lengths of long strings of JSON.
 *
 * XGrammar needs a state for each character that it counts, and 50 ms to compile each with a large
 * vocabulary. So a grammar leaves long strings open, with a marker in them. To ask if the text is
 * in such a string, one tries whether the marker would fit. The characters are counted here.
 */

/** Strings up to this length are counted by the grammar itself. */
export const EXACT_LENGTH = 16

const QUOTE = 0x22
const BACKSLASH = 0x5c

/** The part of a string that a text has come to. An escaped character counts with its backslash. */
export class StringLength {
  /** Characters since the last quote that is not escaped. */
  count = 0
  /** Characters of an escape that are to come; Infinity behind the backslash. */
  #escape = 0
  /** Bytes of a character that are to come. */
  #bytes = 0

  get isInEscape(): boolean {
    return this.#escape > 0
  }

  /**
   * Goes on with bytes of UTF-8. Returns how many of them come before the last place that is within
   * no character and no escape. undefined: each byte ends within one.
   */
  push(bytes: Uint8Array): number | undefined {
    let boundary: number | undefined
    for (const [i, byte] of bytes.entries()) {
      this.#push(byte)
      if (this.#escape === 0 && this.#bytes === 0) boundary = i + 1
    }
    return boundary
  }

  /** The count at the first quote, or else at the end; this itself does not change. */
  after(bytes: Uint8Array): number {
    const copy = new StringLength()
    copy.count = this.count
    copy.#escape = this.#escape
    for (const byte of bytes) {
      const { count } = copy
      if (copy.#push(byte)) return count
    }
    return copy.count
  }

  /** True for a quote that is not escaped. */
  #push(byte: number): boolean {
    this.#bytes = isFollowing(byte) ? Math.max(0, this.#bytes - 1) : bytesBehind(byte)
    if (this.#escape === Infinity) this.#escape = byte === 0x75 ? 4 : 0
    else if (this.#escape > 0) this.#escape--
    else if (byte === QUOTE) {
      this.count = 0
      return true
    } else {
      if (byte === BACKSLASH) this.#escape = Infinity
      // Bytes that go on with a character count nothing.
      if (!isFollowing(byte)) this.count++
    }
    return false
  }
}

const isFollowing = (byte: number) => (byte & 0xc0) === 0x80

/** Of the character that a byte begins. */
function bytesBehind(byte: number): number {
  return Number(byte >= 0xc0) + Number(byte >= 0xe0) + Number(byte >= 0xf0)
}

/** The characters of each token up to its first quote. */
export class TokenLengths {
  readonly #bytesOf: (id: number) => Uint8Array
  readonly #lengths: Uint16Array
  /** Bytes of the longest token. */
  readonly #longest: number
  /** Tokens in which a string may begin and become too long. */
  readonly longBegins: readonly number[]

  constructor(size: number, bytesOf: (id: number) => Uint8Array) {
    this.#bytesOf = bytesOf
    this.#lengths = new Uint16Array(size)
    const longBegins: number[] = []
    let longest = 0
    for (let id = 0; id < size; id++) {
      const bytes = bytesOf(id)
      this.#lengths[id] = new StringLength().after(bytes)
      longest = Math.max(longest, bytes.length)
      const quote = bytes.indexOf(QUOTE)
      if (quote !== -1 && bytes.length - quote - 1 > EXACT_LENGTH) longBegins.push(id)
    }
    this.longBegins = longBegins
    this.#longest = longest
  }

  /** Clears the bits of tokens that would make the string longer than `most`. */
  limit(mask: Int32Array, at: StringLength, most: number): void {
    if (at.count + this.#longest <= most) return
    for (let word = 0; word < mask.length; word++) {
      for (let left = mask[word]!; left !== 0; left &= left - 1) {
        const bit = left & -left
        const id = 32 * word + 31 - Math.clz32(bit)
        if (this.#count(id, at) > most) mask[word]! &= ~bit
      }
    }
  }

  #count(id: number, at: StringLength): number {
    return at.isInEscape ? at.after(this.#bytesOf(id)) : at.count + this.#lengths[id]!
  }
}
