/**
 * Checks of option values, whatever the options are. Each takes a value, and returns it typed. Or
 * it throws a TypeError or RangeError with the option, the expected value and the one that it got.
 */
import { isObject, show } from './json.js'

/** Checks one option's value and returns its resolved form. `name` starts every error message. */
export type Check<T, Context> = (value: unknown, name: string, context: Context) => T
export type Checks<Context> = Readonly<Record<string, Check<unknown, Context>>>
export type Checked<C extends Checks<never>> = { [K in keyof C]?: ReturnType<C[K]> }

/** The options that `checks` names, each checked; what is undefined counts as not given. */
export function checkAll<Context, C extends Checks<Context>>(
  options: unknown,
  checks: C,
  context: Context,
): Checked<C> {
  if (!isObject(options)) throw new TypeError(`options: expected an object, got ${show(options)}`)
  const checked: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(checks, name)) throw unknownOption(name, Object.keys(checks))
    if (value !== undefined) checked[name] = checks[name]!(value, name, context)
  }
  return checked as Checked<C>
}

export function unknownOption(name: string, known: readonly string[]): TypeError {
  const close = nearest(name, known)
  const list = close ? `did you mean ${close}?` : `expected one of ${known.join(', ')}`
  return new TypeError(`unknown option ${show(name)}: ${list}`)
}

/** Time goes with the square of a name's length, and names come from requests, too. */
const LONGEST_NAME = 100

/** The name that was probably meant: one spelled nearly as `name` is, if there is any. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  if (name.length > LONGEST_NAME) return undefined
  const spelled = (text: string) => text.replaceAll(/[_-]/g, '').toLowerCase()
  let best: { readonly candidate: string; readonly distance: number } | undefined
  for (const candidate of known) {
    const distance = editDistance(spelled(name), spelled(candidate))
    const close = distance <= Math.max(1, Math.floor(candidate.length / 3))
    if (close && (best === undefined || distance < best.distance)) best = { candidate, distance }
  }
  return best?.candidate
}

/** Levenshtein's distance: insertions, deletions and replacements that make `a` into `b`. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1))
    }
    row = next
  }
  return row[b.length]!
}

/** `got` is a TypeError if its type is wrong, a RangeError if its value is. */
export function wrong(
  name: string,
  expected: string,
  got: unknown,
  type: 'number' | 'string',
): Error {
  const message = `${name}: expected ${expected}, got ${show(got)}`
  return typeof got === type ? new RangeError(message) : new TypeError(message)
}

/** A safe integer from `least` to `most`. */
export function integer(least: number, most = Number.MAX_SAFE_INTEGER) {
  const range = most === Number.MAX_SAFE_INTEGER ? `>= ${least}` : `from ${least} to ${most}`
  const expected = least === Number.MIN_SAFE_INTEGER ? 'a safe integer' : `an integer ${range}`
  return (value: unknown, name: string): number => {
    const within =
      Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most
    if (!within) throw wrong(name, expected, value, 'number')
    return value as number
  }
}

export function number({ least = -Infinity, above = -Infinity, most = Infinity }) {
  const lower = above === -Infinity ? `>= ${least}` : `> ${above}`
  const expected =
    most === Infinity ? `a finite number ${lower}` : `a number ${lower} and <= ${most}`
  return (value: unknown, name: string): number => {
    const x = Number.isFinite(value) ? (value as number) : Number.NaN
    if (!(x >= least && x > above && x <= most)) throw wrong(name, expected, value, 'number')
    return x
  }
}

export function boolean(value: unknown, name: string): boolean {
  if (typeof value !== 'boolean')
    throw new TypeError(`${name}: expected true or false, got ${show(value)}`)
  return value
}

export function oneOf<const T extends string>(...values: T[]) {
  return (value: unknown, name: string): T => {
    if (!values.includes(value as T))
      throw wrong(name, `one of ${values.map(show).join(', ')}`, value, 'string')
    return value as T
  }
}

/** A string that is not empty. */
export function text(value: unknown, name: string): string {
  if (typeof value !== 'string' || value === '')
    throw wrong(name, 'a string that is not empty', value, 'string')
  return value
}

export function signal(value: unknown, name: string): AbortSignal {
  if (value instanceof AbortSignal) return value
  throw new TypeError(`${name}: expected an AbortSignal, got ${show(value)}`)
}
