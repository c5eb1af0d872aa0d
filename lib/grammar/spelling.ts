/**
 * Bytes in ASCII, as tokens and grammars are given to XGrammar. Its classes of other characters
 * (0.1.27) accept some that they do not hold, and bytes that are no UTF-8.
 *
 * A byte from 0x80 is two control characters, one for each half. Control characters, which texts
 * hardly have, are two letters. So a token that is whole never begins with a second half.
 */
import {
  characters,
  type Expression,
  either,
  type Range,
  runs,
  sequence,
  text,
} from './expression.js'

const HIGH = 0x01
const LOW = 0x10
const MARK = '\x0e'
const MARKED_FROM = 0x41

/** A text that no token has, behind which only a probe can come. */
export function marker(most: number): string {
  return `\x0b${most};`
}

const isMarked = (byte: number) => byte < 0x20 && byte !== 0x09 && byte !== 0x0a && byte !== 0x0d

/** By byte. */
export const SPELLED: readonly string[] = Array.from({ length: 256 }, (_, byte) => {
  if (byte >= 0x80) return String.fromCharCode(HIGH + (byte >> 4) - 8, LOW + (byte & 15))
  return isMarked(byte) ? MARK + String.fromCharCode(MARKED_FROM + byte) : String.fromCharCode(byte)
})

export function spelledBytes(bytes: Uint8Array): string {
  return Array.from(bytes, byte => SPELLED[byte]).join('')
}

export function spelledText(value: string): string {
  return spelledBytes(Buffer.from(value))
}

/** The same with texts and characters as they are spelled. */
export function spelled(expression: Expression): Expression {
  switch (expression.kind) {
    case 'text':
      return text(spelledText(expression.text))
    case 'characters':
      return spelledCharacters(expression.ranges)
    case 'sequence':
      return sequence(...expression.parts.map(spelled))
    case 'either':
      return either(...expression.options.map(spelled))
    case 'repeat':
      return { ...expression, body: spelled(expression.body) }
    case 'rule':
    case 'marker':
      return expression
  }
}

function spelledCharacters(ranges: readonly Range[]): Expression {
  const ascii = ranges
    .filter(([from]) => from < 0x80)
    .flatMap(([from, to]) =>
      Array.from({ length: Math.min(to, 0x7f) - from + 1 }, (_, i) => from + i),
    )
  const plain = ascii.filter(code => !isMarked(code))
  const marked = ascii.filter(isMarked).map(code => MARKED_FROM + code)
  return either(
    ...(plain.length > 0 ? [characters(...runs(plain))] : []),
    ...(marked.length > 0 ? [sequence(text(MARK), characters(...runs(marked)))] : []),
    ...ranges.flatMap(beyondAscii),
  )
}

/** The last character whose UTF-8 has 1, 2, 3 and 4 bytes. */
const LAST_OF_LENGTH = [0x7f, 0x7ff, 0xffff, 0x10ffff]

function beyondAscii([from, to]: Range): Expression[] {
  return LAST_OF_LENGTH.slice(1).flatMap((last, i) => {
    const first = Math.max(from, LAST_OF_LENGTH[i]! + 1)
    const end = Math.min(to, last)
    if (first > end) return []
    const bytesOf = (code: number) => [...Buffer.from(String.fromCodePoint(code))]
    return sameLength(bytesOf(first), bytesOf(end)).map(each => sequence(...each))
  })
}

/** Sequences of bytes of one length, from one to another, as products of ranges. */
function sameLength(from: readonly number[], to: readonly number[]): Expression[][] {
  const [first, last] = [from[0]!, to[0]!]
  if (from.length === 1) return [[byteIn(first, last)]]
  const [low, high] = [from.slice(1), to.slice(1)]
  const least = low.map(() => 0x80)
  const most = low.map(() => 0xbf)
  const begin = (byte: number, rest: Expression[][]) =>
    rest.map(each => [byteIn(byte, byte), ...each])
  if (first === last) return begin(first, sameLength(low, high))
  const isWholeBelow = low.every(byte => byte === 0x80)
  const isWholeAbove = high.every(byte => byte === 0xbf)
  const wholeFrom = isWholeBelow ? first : first + 1
  const wholeTo = isWholeAbove ? last : last - 1
  return [
    ...(isWholeBelow ? [] : begin(first, sameLength(low, most))),
    ...(wholeFrom > wholeTo
      ? []
      : [[byteIn(wholeFrom, wholeTo), ...least.map(() => byteIn(0x80, 0xbf))]]),
    ...(isWholeAbove ? [] : begin(last, sameLength(least, high))),
  ]
}

/** A byte from 0x80 on. */
function byteIn(from: number, to: number): Expression {
  const [first, last] = [from >> 4, to >> 4]
  const halves = (high: number, highTo: number, low: number, lowTo: number) =>
    sequence(characters([HIGH + high - 8, HIGH + highTo - 8]), characters([LOW + low, LOW + lowTo]))
  if (first === last) return halves(first, first, from & 15, to & 15)
  const wholeFrom = (from & 15) === 0 ? first : first + 1
  const wholeTo = (to & 15) === 15 ? last : last - 1
  return either(
    ...(wholeFrom === first ? [] : [halves(first, first, from & 15, 15)]),
    ...(wholeFrom > wholeTo ? [] : [halves(wholeFrom, wholeTo, 0, 15)]),
    ...(wholeTo === last ? [] : [halves(last, last, 0, to & 15)]),
  )
}
