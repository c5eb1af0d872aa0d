/**
 * Numbers of JSON between bounds. All of them are exact enough to keep their bounds when they are
 * read as doubles: at most 15 digits, or 6 behind the point.
 */
import {
  digits,
  EMPTY,
  type Expression,
  either,
  optional,
  repeat,
  sequence,
  text,
} from './expression.js'

const MOST_DIGITS = 15
/** Largest magnitude of an integer. */
const LARGEST = 10n ** BigInt(MOST_DIGITS) - 1n
const DECIMALS = 6
const UNIT = 10n ** BigInt(DECIMALS)
/** Bounds of numbers with a fraction: above, doubles are too coarse for 6 decimals. */
const LARGEST_FRACTIONAL = 1e9

export interface Bounds {
  readonly minimum: number
  readonly maximum: number
  /** True: the bound itself is left out. */
  readonly aboveMinimum: boolean
  readonly belowMaximum: boolean
}

/** Of 15 digits at most, so that no double overflows. */
export const ANY_NUMBER = sequence(
  optional(text('-')),
  either(text('0'), sequence(digits(1, 9), repeat(digits(0, 9), 0, MOST_DIGITS - 1))),
  optional(sequence(text('.'), repeat(digits(0, 9), 1, MOST_DIGITS))),
  optional(
    sequence(
      either(text('e'), text('E')),
      optional(either(text('+'), text('-'))),
      digits(0, 9),
      optional(digits(0, 9)),
    ),
  ),
)

/** Integers within the bounds; undefined if there are none. */
export function integersIn(bounds: Bounds): Expression | undefined {
  const { aboveMinimum, belowMaximum } = bounds
  const minimum = clamped(bounds.minimum)
  const maximum = clamped(bounds.maximum)
  const low = BigInt(Math.ceil(minimum)) + BigInt(aboveMinimum && Number.isInteger(minimum))
  const high = BigInt(Math.floor(maximum)) - BigInt(belowMaximum && Number.isInteger(maximum))
  return signed(low < -LARGEST ? -LARGEST : low, high > LARGEST ? LARGEST : high, naturals)
}

function clamped(bound: number): number {
  return Math.max(-2e15, Math.min(2e15, bound))
}

/**
 * Decimals within the bounds; undefined if there are none. Bounds with a fraction are at most
 * LARGEST_FRACTIONAL: `isCoarse` says if one is not.
 */
export function decimalsIn(bounds: Bounds): Expression | undefined {
  const low = units(clamped(bounds.minimum), bounds.aboveMinimum)
  const high = -units(-clamped(bounds.maximum), bounds.belowMaximum)
  const most = LARGEST * UNIT
  return signed(low < -most ? -most : low, high > most ? most : high, decimals)
}

export function isCoarse(bound: number): boolean {
  return Math.abs(bound) > LARGEST_FRACTIONAL && Math.abs(bound) < Number(LARGEST)
}

/** The least number of 1e-6 that is at least `bound`, or above it. */
function units(bound: number, above: boolean): bigint {
  let n = BigInt(Math.floor(bound * Number(UNIT))) - 2n
  // Integers of this size are exact, and so the loop is short.
  if (Math.abs(bound) > LARGEST_FRACTIONAL) n = BigInt(Math.floor(bound)) * UNIT
  while (above ? !(valueOfUnits(n) > bound) : valueOfUnits(n) < bound) n++
  return n
}

function valueOfUnits(n: bigint): number {
  return Number(`${n}e-${DECIMALS}`)
}

/** `magnitudes` gives the expression of the numbers from one to another, neither negative. */
function signed(
  low: bigint,
  high: bigint,
  magnitudes: (low: bigint, high: bigint) => Expression,
): Expression | undefined {
  const options: Expression[] = []
  if (low < 0n) options.push(sequence(text('-'), magnitudes(high < 0n ? -high : 1n, -low)))
  if (high >= 0n) options.push(magnitudes(low > 0n ? low : 0n, high))
  return low > high ? undefined : either(...options)
}

/** Integers without a sign, and without zeros in front. */
function naturals(low: bigint, high: bigint): Expression {
  const options: Expression[] = []
  const [shortest, longest] = [`${low}`.length, `${high}`.length]
  for (let length = shortest; length <= longest; length++) {
    const from = length === shortest ? `${low}` : `1${'0'.repeat(length - 1)}`
    const to = length === longest ? `${high}` : '9'.repeat(length)
    options.push(sameLength(from, to))
  }
  return either(...options)
}

/** Strings of as many digits, from one to the other. */
function sameLength(from: string, to: string): Expression {
  const count = from.length
  if (count === 0) return EMPTY
  if (isAll(from, '0') && isAll(to, '9')) return repeat(digits(0, 9), count, count)
  const [first, last] = [Number(from[0]), Number(to[0])]
  const [low, high] = [from.slice(1), to.slice(1)]
  if (first === last) return sequence(digits(first, first), sameLength(low, high))
  const isWholeBelow = isAll(low, '0')
  const isWholeAbove = isAll(high, '9')
  const wholeFrom = first + Number(!isWholeBelow)
  const wholeTo = last - Number(!isWholeAbove)
  const options: Expression[] = []
  if (!isWholeBelow)
    options.push(sequence(digits(first, first), sameLength(low, '9'.repeat(count - 1))))
  if (wholeFrom <= wholeTo)
    options.push(sequence(digits(wholeFrom, wholeTo), repeat(digits(0, 9), count - 1, count - 1)))
  if (!isWholeAbove)
    options.push(sequence(digits(last, last), sameLength('0'.repeat(count - 1), high)))
  return either(...options)
}

function isAll(text: string, digit: string): boolean {
  return text === digit.repeat(text.length)
}

/** Numbers of 1e-6, without a sign. */
function decimals(low: bigint, high: bigint): Expression {
  const [wholeLow, wholeHigh] = [low / UNIT, high / UNIT]
  const from = `${low % UNIT}`.padStart(DECIMALS, '0')
  const to = `${high % UNIT}`.padStart(DECIMALS, '0')
  if (wholeLow === wholeHigh) return sequence(text(`${wholeLow}`), fraction(from, to))
  const options = [
    sequence(text(`${wholeLow}`), fraction(from, '9'.repeat(DECIMALS))),
    sequence(text(`${wholeHigh}`), fraction('0'.repeat(DECIMALS), to)),
  ]
  if (wholeHigh - wholeLow > 1n)
    options.push(
      sequence(
        naturals(wholeLow + 1n, wholeHigh - 1n),
        fraction('0'.repeat(DECIMALS), '9'.repeat(DECIMALS)),
      ),
    )
  return either(...options)
}

/** The point and digits behind it, or neither if that is within the bounds. */
function fraction(from: string, to: string): Expression {
  const some = sequence(text('.'), digitsBehind(from, to, false))
  return isAll(from, '0') ? optional(some) : some
}

/** Digits whose value, with zeros behind them, is from one bound to the other. */
function digitsBehind(from: string, to: string, mayEnd: boolean): Expression {
  if (from === '') return EMPTY
  if (isAll(from, '0') && isAll(to, '9')) return repeat(digits(0, 9), mayEnd ? 0 : 1, from.length)
  const options: Expression[] = mayEnd && isAll(from, '0') ? [EMPTY] : []
  const [first, last] = [Number(from[0]), Number(to[0])]
  const [zeros, nines] = ['0'.repeat(from.length - 1), '9'.repeat(from.length - 1)]
  for (let digit = first; digit <= last; digit++) {
    const low = digit === first ? from.slice(1) : zeros
    const high = digit === last ? to.slice(1) : nines
    options.push(sequence(digits(digit, digit), digitsBehind(low, high, true)))
  }
  return either(...options)
}
