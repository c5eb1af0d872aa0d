/** Classes of characters, by the Unicode tables of the JavaScript engine. */

export const LETTER = 1
export const NUMBER = 2
/** White_Space, less CR and LF. It has U+0085, and not U+FEFF: not JavaScript's `\s`. */
export const SPACE = 4
export const NEWLINE = 8
/** Everything else: marks, too. */
export const OTHER = 16
export const MARK = 32
/** `\w` of Rust's regex crate. */
export const WORD = 64

const PATTERNS: readonly (readonly [RegExp, number])[] = [
  [/\p{L}/u, LETTER],
  [/\p{N}/u, NUMBER],
  [/[\r\n]/u, NEWLINE],
  [/\p{White_Space}/u, SPACE],
  [/[\s\S]/u, OTHER],
]
const PAGE_BITS = 8
const pages: (Uint8Array | undefined)[] = new Array(0x110000 >> PAGE_BITS).fill(undefined)

/** One of the five classes, with MARK and WORD where they hold. */
export function classOf(codePoint: number): number {
  const page = pages[codePoint >> PAGE_BITS] ?? makePage(codePoint >> PAGE_BITS)
  return page[codePoint & ((1 << PAGE_BITS) - 1)]!
}

function makePage(index: number): Uint8Array {
  const page = Uint8Array.from({ length: 1 << PAGE_BITS }, (_, i) => {
    const character = String.fromCodePoint((index << PAGE_BITS) | i)
    const [, found] = PATTERNS.find(([pattern]) => pattern.test(character))!
    const mark = /\p{M}/u.test(character) ? MARK : 0
    const isWord = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u.test(character)
    return found | mark | (isWord ? WORD : 0)
  })
  pages[index] = page
  return page
}
