/**
 * Jinja's filters and tests as Python has them. The library lacks some, and others give what
 * JavaScript would.
 */

import { jsonOf, strOf } from './printing.js'
import { capitalize, joined, replace, strip, title } from './text-methods.js'
import {
  checkLength,
  compareTexts,
  isDict,
  isEqual,
  isList,
  isNone,
  isText,
  isTrue,
  isUndefined,
  itemsOf,
  kind,
  numberOf,
  ofFloat,
  ofInteger,
  ofList,
  ofText,
  UNDEFINED,
  type Value,
} from './values.js'

/** The arguments of a filter, after the value that it is applied to. */
export class Arguments {
  readonly list: readonly Value[]
  readonly named: ReadonlyMap<string, Value>

  constructor(list: readonly Value[], named: ReadonlyMap<string, Value>) {
    this.list = list
    this.named = named
  }

  get(place: number, name: string): Value | undefined {
    return this.list[place] ?? this.named.get(name)
  }

  isTrue(place: number, name: string): boolean {
    const value = this.get(place, name)
    return value !== undefined && isTrue(value)
  }

  text(place: number, name: string, absent: string): string {
    const value = this.get(place, name)
    return value === undefined ? absent : strOf(value)
  }

  /** The arguments of the filter or test that an argument names. */
  after(count: number): Arguments {
    return new Arguments(this.list.slice(count), this.named)
  }
}

export type Filter = (x: Value, args: Arguments) => Value
export type Test = (x: Value, args: Arguments) => boolean

const FILTERS: Readonly<Record<string, Filter>> = {
  tojson,
  string: x => ofText(strOf(x)),
  trim: (x, args) => ofText(strip(strOf(x), args.get(0, 'chars'), true, true)),
  upper: x => ofText(strOf(x).toUpperCase()),
  lower: x => ofText(strOf(x).toLowerCase()),
  capitalize: x => ofText(capitalize(strOf(x))),
  title: x => ofText(title(strOf(x))),
  replace: (x, args) =>
    ofText(
      replace(strOf(x), args.text(0, 'old', ''), args.text(1, 'new', ''), args.get(2, 'count')),
    ),
  indent,
  length,
  count: length,
  list: x => ofList([...itemsOf(x)]),
  first: x => itemsOf(x)[0] ?? UNDEFINED,
  last: x => itemsOf(x).at(-1) ?? UNDEFINED,
  join,
  default: byDefault,
  d: byDefault,
  int: toInteger,
  float: toFloat,
  items: x => ofList(isUndefined(x) ? [] : pairs(x)),
  sum: x => ofInteger(itemsOf(x).reduce((sum, item) => sum + (numberOf(item) ?? 0), 0)),
  min: x => extreme(x, -1),
  max: x => extreme(x, 1),
  round: (x, args) => round(x, numberOf(args.get(0, 'precision') ?? ofInteger(0)) ?? 0),
  unique: x => ofList(itemsOf(x).filter((a, i, all) => all.findIndex(b => same(a, b)) === i)),
  map: mapped,
  select: (x, args) => ofList(itemsOf(x).filter(item => passes(item, args))),
  reject: (x, args) => ofList(itemsOf(x).filter(item => !passes(item, args))),
  selectattr: (x, args) => ofList(itemsOf(x).filter(item => attributePasses(item, args))),
  rejectattr: (x, args) => ofList(itemsOf(x).filter(item => !attributePasses(item, args))),
}

const TESTS: Readonly<Record<string, Test>> = {
  defined: x => !isUndefined(x),
  undefined: isUndefined,
  none: isNone,
  boolean: x => typeof x.value === 'boolean',
  true: x => x.value === true,
  false: x => x.value === false,
  string: isText,
  number: x => numberOf(x) !== undefined,
  integer: x => x.type === 'IntegerValue',
  float: x => x.type === 'FloatValue',
  mapping: isDict,
  iterable: x => isText(x) || isList(x) || isDict(x) || isUndefined(x),
  sequence: x => isText(x) || isList(x) || isDict(x) || isUndefined(x),
  callable: x => x.type === 'FunctionValue',
  odd: x => Math.abs((numberOf(x) ?? 0) % 2) === 1,
  even: x => (numberOf(x) ?? 1) % 2 === 0,
  divisibleby: (x, args) => (numberOf(x) ?? 1) % (numberOf(args.list[0]!) ?? 0) === 0,
  lower: x => strOf(x) === strOf(x).toLowerCase() && strOf(x) !== strOf(x).toUpperCase(),
  upper: x => strOf(x) === strOf(x).toUpperCase() && strOf(x) !== strOf(x).toLowerCase(),
  in: (x, args) => contains(args.list[0] ?? UNDEFINED, x),
  eq: equal,
  equalto: equal,
  '==': equal,
  ne: (x, args) => !equal(x, args),
  '!=': (x, args) => !equal(x, args),
}

export const filterOf = (name: string): Filter | undefined => own(FILTERS, name)

export function testOf(name: string): Test {
  const test = own(TESTS, name)
  if (!test) throw new Error(`no test is named ${name}`)
  return test
}

function own<T>(table: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined
}

/** Python's `x in container`. */
export function contains(container: Value, x: Value): boolean {
  if (isText(container)) {
    if (!isText(x)) throw new Error(`'in <string>' requires string as left operand, not ${kind(x)}`)
    return container.value.includes(x.value)
  }
  if (isDict(container)) return isText(x) && container.value.has(x.value)
  return itemsOf(container).some(item => isEqual(item, x))
}

/** The value at a dotted path of keys or places; undefined if there is none. */
function attributeOf(x: Value, path: string): Value {
  let value = x
  for (const part of path.split('.')) {
    if (isDict(value)) value = value.value.get(part) ?? UNDEFINED
    else if (isList(value) && /^\d+$/.test(part)) value = value.value[Number(part)] ?? UNDEFINED
    else return UNDEFINED
  }
  return value
}

/** transformers' tojson: no escapes for HTML, characters as they are, keys in their order. */
function tojson(x: Value, args: Arguments): Value {
  const indent = args.get(1, 'indent')
  const isPlain = indent === undefined || isNone(indent)
  const width = numberOf(indent ?? UNDEFINED)
  if (width !== undefined) checkLength(width)
  const separators = args.get(2, 'separators')
  const given = isList(separators) ? separators.value.map(strOf) : undefined
  const style = {
    indent: isPlain ? undefined : width === undefined ? strOf(indent) : ' '.repeat(width),
    ensureAscii: args.isTrue(0, 'ensure_ascii'),
    separators: (given ?? [isPlain ? ', ' : ',', ': ']) as [string, string],
    sortKeys: args.isTrue(3, 'sort_keys'),
  }
  return ofText(jsonOf(x, style))
}

function indent(x: Value, args: Arguments): Value {
  const width = args.get(0, 'width') ?? ofInteger(4)
  const count = numberOf(width)
  if (count !== undefined) checkLength(count)
  const space = count === undefined ? strOf(width) : ' '.repeat(count)
  const lines = strOf(x).split('\n')
  const isIndented = (line: string, at: number) =>
    at === 0 ? args.isTrue(1, 'first') : line !== '' || args.isTrue(2, 'blank')
  const parts = lines.flatMap((line, at) => (isIndented(line, at) ? [space + line] : [line]))
  return ofText(joined(parts, '\n'))
}

function length(x: Value): Value {
  if (isDict(x)) return ofInteger(x.value.size)
  return ofInteger(itemsOf(x).length)
}

function join(x: Value, args: Arguments): Value {
  const attribute = args.get(1, 'attribute')
  const items = itemsOf(x).map(item => (attribute ? attributeOf(item, strOf(attribute)) : item))
  return ofText(joined(items.map(strOf), args.text(0, 'd', '')))
}

function byDefault(x: Value, args: Arguments): Value {
  const isAbsent = isUndefined(x) || (args.isTrue(1, 'boolean') && !isTrue(x))
  return isAbsent ? (args.get(0, 'default_value') ?? ofText('')) : x
}

function toInteger(x: Value, args: Arguments): Value {
  const number = isText(x) ? parsed(x.value) : numberOf(x)
  if (number === undefined) return args.get(0, 'default') ?? ofInteger(0)
  return ofInteger(Math.trunc(number))
}

function toFloat(x: Value, args: Arguments): Value {
  const number = isText(x) ? parsed(x.value) : numberOf(x)
  return number === undefined ? (args.get(0, 'default') ?? ofFloat(0)) : ofFloat(number)
}

function parsed(text: string): number | undefined {
  const number = /^\s*[+-]?(\d|\.\d)/.test(text) ? Number(text) : Number.NaN
  return Number.isFinite(number) ? number : undefined
}

function pairs(x: Value): Value[] {
  if (!isDict(x)) throw new Error(`items() needs a mapping, got ${kind(x)}`)
  return [...x.value].map(([key, value]) => ofList([ofText(key), value]))
}

function extreme(x: Value, sign: number): Value {
  const [first, ...rest] = itemsOf(x)
  const larger = (a: Value, b: Value) => (compare(b, a) * sign > 0 ? b : a)
  return first ? rest.reduce(larger, first) : UNDEFINED
}

/** Below 0 if Python's a < b. */
export function compare(a: Value, b: Value): number {
  if (isText(a) && isText(b)) return compareTexts(a.value, b.value)
  const [x, y] = [numberOf(a), numberOf(b)]
  if (x === undefined || y === undefined) throw new Error(`${kind(a)} and ${kind(b)} have no order`)
  return x - y
}

/** Half goes to the even neighbour. */
function round(x: Value, precision: number): Value {
  const scale = 10 ** precision
  const scaled = (numberOf(x) ?? Number.NaN) * scale
  const isHalf = Math.abs(scaled % 1) === 0.5
  return ofFloat((isHalf ? 2 * Math.round(scaled / 2) : Math.round(scaled)) / scale)
}

/** Texts are the same in upper and lower case here. */
function same(a: Value, b: Value): boolean {
  return isText(a) && isText(b) ? a.value.toLowerCase() === b.value.toLowerCase() : isEqual(a, b)
}

function mapped(x: Value, args: Arguments): Value {
  const attribute = args.named.get('attribute')
  if (attribute) {
    const absent = args.named.get('default')
    const value = (item: Value) => attributeOf(item, strOf(attribute))
    return ofList(itemsOf(x).map(item => byAbsence(value(item), absent)))
  }
  const name = args.text(0, 'filter', '')
  const filter = filterOf(name)
  if (!filter) throw new Error(`no filter is named ${name}`)
  return ofList(itemsOf(x).map(item => filter(item, args.after(1))))
}

const byAbsence = (x: Value, absent: Value | undefined) => (isUndefined(x) ? (absent ?? x) : x)

function passes(x: Value, args: Arguments): boolean {
  const [name] = args.list
  return name === undefined ? isTrue(x) : testOf(strOf(name))(x, args.after(1))
}

function attributePasses(x: Value, args: Arguments): boolean {
  return passes(attributeOf(x, args.text(0, 'attribute', '')), args.after(1))
}

function equal(x: Value, args: Arguments): boolean {
  return isEqual(x, args.list[0] ?? UNDEFINED)
}
