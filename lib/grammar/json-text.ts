/** The spelling of JSON: strings and separators, as JSON.stringify has them. */
import { isObject } from '../base/json.js'
import {
  characters,
  complement,
  type Expression,
  either,
  intersection,
  optional,
  repeat,
  sequence,
  single,
  text,
} from './expression.js'
import type { Alphabet } from './regex.js'
import { EXACT_LENGTH } from './string-lengths.js'

/** Characters that stand for themselves in a string. */
export const UNESCAPED = complement([
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
])

/** A space may follow, as Python's json.dumps writes it: models have read much of that. */
export const COMMA = sequence(text(','), optional(text(' ')))
export const COLON = sequence(text(':'), optional(text(' ')))

const ANY_CHARACTER = either(
  characters(...UNESCAPED),
  sequence(
    text('\\'),
    either(
      characters(...[...'"\\bfnrt'].map(each => single(each.charCodeAt(0)))),
      sequence(text('u00'), characters([0x30, 0x31]), characters([0x30, 0x39], [0x61, 0x66])),
    ),
  ),
)

/** Characters between the quotes of a string. */
export const IN_STRING: Alphabet = ranges => {
  if (complement(ranges).length === 0) return ANY_CHARACTER
  const plain = intersection(ranges, UNESCAPED)
  const codes = intersection(ranges, complement(UNESCAPED)).flatMap(([from, to]) =>
    Array.from({ length: to - from + 1 }, (_, i) => from + i),
  )
  const escapes = codes.map(code => text(JSON.stringify(String.fromCharCode(code)).slice(1, -1)))
  return either(...(plain.length > 0 ? [characters(...plain)] : []), ...escapes)
}

export function quoted(content: Expression): Expression {
  return sequence(text('"'), content, text('"'))
}

export function stringOf(least: number, most: number): Expression {
  if (most <= EXACT_LENGTH || most === Infinity) return quoted(repeat(ANY_CHARACTER, least, most))
  return quoted(repeat(either(ANY_CHARACTER, { kind: 'marker', most }), least))
}

/** Items with commas between them. */
export function separated(items: readonly Expression[]): Expression {
  return sequence(...items.flatMap((item, i) => (i === 0 ? [item] : [COMMA, item])))
}

/** Items without a fixed number: where nothing is before them, and behind others. */
export function countedItems(
  item: Expression,
  least: number,
  most: number,
): { readonly first: Expression; readonly behind: Expression } {
  const following = sequence(COMMA, item)
  const some = sequence(item, repeat(following, Math.max(0, least - 1), most - 1))
  return {
    first: least === 0 ? optional(some) : some,
    behind: repeat(following, least, most),
  }
}

/** One value, which is JSON. */
export function writtenValue(value: unknown): Expression {
  if (Array.isArray(value))
    return sequence(text('['), separated(value.map(writtenValue)), text(']'))
  if (!isObject(value)) return text(JSON.stringify(value))
  const members = Object.entries(value).map(([key, each]) =>
    sequence(text(JSON.stringify(key)), COLON, writtenValue(each)),
  )
  return sequence(text('{'), separated(members), text('}'))
}
