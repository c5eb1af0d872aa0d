/**
 * The alphabet of byte-level BPE: a printable character for each byte. Bytes that are printable in
 * Latin-1 stand for themselves; the others are U+0100 and those behind it, in order.
 *
 * Source: bytes_to_unicode in openai/gpt-2, src/encoder.py.
 */

import { utf8 } from './utf8.js'

const isPrintable = (byte: number) =>
  (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad)

/** By byte. */
export const BYTE_LETTERS: readonly string[] = (() => {
  let next = 0x100
  return Array.from({ length: 256 }, (_, byte) =>
    String.fromCharCode(isPrintable(byte) ? byte : next++),
  )
})()

const BYTES: ReadonlyMap<string, number> = new Map(
  BYTE_LETTERS.map((letter, byte) => [letter, byte]),
)

/** A well-formed text in letters of its UTF-8 bytes. */
export function toByteLetters(text: string): string {
  let letters = ''
  for (let at = 0; at < text.length; at++) {
    const codePoint = text.codePointAt(at)!
    if (codePoint < 0x80) letters += BYTE_LETTERS[codePoint]
    else for (const byte of utf8(codePoint)) letters += BYTE_LETTERS[byte]
    if (codePoint > 0xffff) at++
  }
  return letters
}

/** The bytes that a token stands for. One that has other characters stands for its own text. */
export function bytesOfToken(token: string): Uint8Array {
  const bytes = Array.from(token, letter => BYTES.get(letter) ?? -1)
  return bytes.includes(-1) ? new TextEncoder().encode(token) : Uint8Array.from(bytes)
}
