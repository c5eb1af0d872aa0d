/**
 * The alphabet of byte-level BPE: a printable character for each byte. Bytes that are printable in
 * Latin-1 stand for themselves; the others are U+0100 and those behind it, in order.
 *
 * Source: bytes_to_unicode in openai/gpt-2, src/encoder.py.
 */

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

const UTF8 = new TextEncoder()

/** A text in letters of its UTF-8 bytes. */
export function toByteLetters(text: string): string {
  if (/^[!-~]*$/.test(text)) return text
  let letters = ''
  for (const byte of UTF8.encode(text)) letters += BYTE_LETTERS[byte]
  return letters
}

/** The bytes that a token stands for. One that has other characters stands for its own text. */
export function bytesOfToken(token: string): Uint8Array {
  const bytes = Array.from(token, letter => BYTES.get(letter) ?? -1)
  return bytes.includes(-1) ? UTF8.encode(token) : Uint8Array.from(bytes)
}
