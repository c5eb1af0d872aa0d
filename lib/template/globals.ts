/** The functions that transformers gives a template. */
import { Environment } from '@huggingface/jinja'
import { setIn } from './interpreter.js'
import { strOf } from './printing.js'
import {
  isDict,
  NONE,
  numberOf,
  ofBoolean,
  ofDict,
  ofFunction,
  ofInteger,
  ofList,
  ofText,
  UNDEFINED,
  type Value,
} from './values.js'

/** The template's own words: it does not take these messages. */
export class Refusal extends Error {}

/** Of Jinja's sandbox. */
const MOST_RANGE = 100_000

const GLOBALS: Readonly<Record<string, Value>> = {
  true: ofBoolean(true),
  false: ofBoolean(false),
  none: NONE,
  True: ofBoolean(true),
  False: ofBoolean(false),
  None: NONE,
  range: ofFunction(range),
  dict: ofFunction(dict),
  raise_exception: ofFunction(([message]) => {
    throw new Refusal(strOf(message ?? UNDEFINED))
  }),
  strftime_now: ofFunction(([format]) => ofText(strftime(new Date(), strOf(format ?? UNDEFINED)))),
}

/** A scope with the globals, and the variables of a call, which win. */
export function templateScope(variables: object): Environment {
  const globals = new Environment()
  for (const [name, value] of Object.entries(GLOBALS)) setIn(globals, name, value)
  const scope = new Environment(globals)
  scope.variables.delete('namespace')
  for (const [name, value] of Object.entries(variables)) {
    scope.variables.delete(name)
    scope.set(name, value)
  }
  return scope
}

function range(args: readonly Value[]): Value {
  const given = args.map(arg => {
    const number = numberOf(arg)
    if (!Number.isInteger(number)) throw new Error('range() needs integers')
    return number!
  })
  const [start, stop, step = 1] = given.length === 1 ? [0, given[0]!] : given
  if (start === undefined || stop === undefined) throw new Error('range() needs an end')
  if (step === 0) throw new Error('range() step must not be zero')
  const length = Math.max(0, Math.ceil((stop - start) / step))
  if (length > MOST_RANGE) throw new Error(`range() gives more than ${MOST_RANGE} numbers`)
  return ofList(Array.from({ length }, (_, i) => ofInteger(start + i * step)))
}

/** The named arguments are a dict already. */
function dict(args: Value[]): Value {
  const result = new Map<string, Value>()
  for (const arg of args) {
    if (!isDict(arg)) throw new Error('dict() needs a mapping')
    for (const [key, value] of arg.value) result.set(key, value)
  }
  return ofDict(result)
}

const month = (date: Date) => date.toLocaleDateString('en-US', { month: 'long' })
const day = (date: Date) => date.toLocaleDateString('en-US', { weekday: 'long' })
const two = (number: number) => String(number).padStart(2, '0')

/** Python's codes in the C locale, of local time. A minus leaves out zeros in front, as glibc's. */
const CODES: Readonly<Record<string, (date: Date) => string>> = {
  Y: date => String(date.getFullYear()),
  y: date => two(date.getFullYear() % 100),
  m: date => two(date.getMonth() + 1),
  d: date => two(date.getDate()),
  e: date => String(date.getDate()).padStart(2),
  B: month,
  b: date => month(date).slice(0, 3),
  h: date => month(date).slice(0, 3),
  A: day,
  a: date => day(date).slice(0, 3),
  H: date => two(date.getHours()),
  I: date => two(date.getHours() % 12 || 12),
  M: date => two(date.getMinutes()),
  S: date => two(date.getSeconds()),
  p: date => (date.getHours() < 12 ? 'AM' : 'PM'),
  F: date => strftime(date, '%Y-%m-%d'),
  T: date => strftime(date, '%H:%M:%S'),
  R: date => strftime(date, '%H:%M'),
  D: date => strftime(date, '%m/%d/%y'),
  '%': () => '%',
}

function strftime(date: Date, format: string): string {
  return format.replace(/%(-?)([\s\S])/g, (code, minus: string, letter: string) => {
    const write = Object.hasOwn(CODES, letter) ? CODES[letter] : undefined
    if (!write) throw new Error(`strftime_now() does not know ${code}`)
    return minus ? write(date).replace(/^[0 ](?=.)/, '') : write(date)
  })
}
