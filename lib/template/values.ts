/**
 * The values of @huggingface/jinja, and what Python makes of them: str, repr, json.dumps and ==.
 * The library prints as JavaScript does, and templates are written for Python.
 */
import { Environment } from '@huggingface/jinja'

/** A value of the library, whose classes it does not export. */
export interface Value {
  readonly type: string
  readonly value: unknown
  readonly builtins: ReadonlyMap<string, Value>
  __bool__(): { readonly value: boolean }
}
export type Callable = (args: Value[], scope: Environment) => Value

export const MAX_TEXT = 8_000_000
export const MAX_ITEMS = 1_000_000

type Make<T> = new (value: T) => Value
const environment = new Environment()
const classOf = <T>(name: string, example: unknown): Make<T> =>
  environment.set(name, example).constructor as unknown as Make<T>
const TextValue = classOf<string>('a', '')
const IntegerValue = classOf<number>('b', 0)
const FloatValue = classOf<number>('c', 0.5)
const BooleanValue = classOf<boolean>('d', true)
const ListValue = classOf<Value[]>('e', [])
const DictValue = classOf<Map<string, Value>>('i', {})
const FunctionValue = classOf<Callable>('f', () => {})
export const NONE = environment.set('g', null) as unknown as Value
export const UNDEFINED = environment.set('h', undefined) as unknown as Value

export const ofText = (value: string): Value => new TextValue(value)
export const ofInteger = (value: number): Value => new IntegerValue(value)
export const ofFloat = (value: number): Value => new FloatValue(value)
export const ofBoolean = (value: boolean): Value => new BooleanValue(value)
export const ofList = (value: Value[]): Value => new ListValue(value)
export const ofDict = (value: Map<string, Value>): Value => new DictValue(value)
export const ofFunction = (value: Callable): Value => new FunctionValue(value)

export const isText = (x: Value | undefined): x is Value & { value: string } =>
  x?.type === 'StringValue'
export const isList = (x: Value | undefined): x is Value & { value: Value[] } =>
  x?.type === 'ArrayValue' || x?.type === 'TupleValue'
export const isDict = (x: Value | undefined): x is Value & { value: Map<string, Value> } =>
  x?.type === 'ObjectValue' || x?.type === 'KeywordArgumentsValue'
/** The library's null has no value. */
export const isNone = (x: Value | undefined): boolean => x?.type === 'NullValue'
export const isUndefined = (x: Value | undefined): boolean => x?.type === 'UndefinedValue'
export const isTrue = (x: Value): boolean => x.__bool__().value

/** The number that Python computes with; undefined for what is none. */
export function numberOf(x: Value): number | undefined {
  return typeof x.value === 'number' || typeof x.value === 'boolean' ? Number(x.value) : undefined
}

/** What a loop runs over: items, keys or characters. Python takes an undefined value for none. */
export function itemsOf(x: Value): Value[] {
  if (isList(x)) return x.value
  if (isDict(x)) return [...x.value.keys()].map(ofText)
  if (isText(x)) return Array.from(x.value, ofText)
  if (isUndefined(x)) return []
  throw new Error(`${kind(x)} is not iterable`)
}

/** A type's name in Python. */
export function kind(x: Value): string {
  if (isText(x)) return 'str'
  if (isList(x)) return 'list'
  if (isDict(x)) return 'dict'
  const names: Readonly<Record<string, string>> = {
    NullValue: 'None',
    UndefinedValue: 'an undefined value',
    BooleanValue: 'bool',
    IntegerValue: 'int',
    FloatValue: 'float',
  }
  return names[x.type] ?? x.type
}

/** Python's `a == b`. True equals 1. */
export function isEqual(a: Value, b: Value): boolean {
  if (isList(a) && isList(b)) {
    return a.value.length === b.value.length && a.value.every((x, i) => isEqual(x, b.value[i]!))
  }
  if (isDict(a) && isDict(b)) {
    const other = b.value
    if (a.value.size !== other.size) return false
    return [...a.value].every(([key, x]) => other.has(key) && isEqual(x, other.get(key)!))
  }
  const x = numberOf(a)
  if (x !== undefined) return x === numberOf(b)
  return a.type === b.type && a.value === b.value
}

/**
 * Python's repr of a number. JavaScript has one kind, so 1.0 is the integer 1. Minus zero is a
 * float. An integer from 1e21 counts as a float, as JavaScript writes it.
 */
export function numberText(x: Value & { value: number }): string {
  const { value } = x
  if (Object.is(value, -0)) return '-0.0'
  const size = Math.abs(value)
  const isExponential =
    (size < 1e-4 && size > 0) || size >= (x.type === 'IntegerValue' ? 1e21 : 1e16)
  if (isExponential) return value.toExponential().replace(/e([+-])(\d)$/, 'e$10$2')
  return x.type === 'FloatValue' && Number.isInteger(value) ? `${value}.0` : String(value)
}

/** Python's str. */
export function strOf(x: Value): string {
  if (isText(x)) return x.value
  return isUndefined(x) ? '' : reprOf(x)
}

function reprOf(x: Value): string {
  const out = new Output()
  writeRepr(x, out)
  return out.text
}

/** A text that grows up to MAX_TEXT: lists may hold one list many times. */
class Output {
  text = ''

  add(more: string): void {
    this.text = bounded(this.text + more)
  }

  /** Items with their separators, each written by `write`. */
  join<T>(items: Iterable<T>, separator: string, write: (item: T) => void): void {
    let isFirst = true
    for (const item of items) {
      if (!isFirst) this.add(separator)
      isFirst = false
      write(item)
    }
  }
}

/** `text`, unless a template made it too long. */
export function bounded(text: string): string {
  checkLength(text.length)
  return text
}

/** Of a text in UTF-16 units. */
export function checkLength(length: number): void {
  if (length > MAX_TEXT) throw new Error(`a text has more than ${MAX_TEXT} characters`)
}

function writeRepr(x: Value, out: Output): void {
  if (isText(x)) return out.add(textRepr(x.value))
  if (typeof x.value === 'number') return out.add(numberText(x as Value & { value: number }))
  if (typeof x.value === 'boolean') return out.add(x.value ? 'True' : 'False')
  if (isList(x)) {
    const [open, close] = x.type === 'TupleValue' ? ['(', ')'] : ['[', ']']
    out.add(open!)
    out.join(x.value, ', ', item => writeRepr(item, out))
    return out.add(x.type === 'TupleValue' && x.value.length === 1 ? `,${close}` : close!)
  }
  if (isDict(x)) {
    out.add('{')
    out.join(x.value, ', ', ([key, value]) => {
      out.add(`${textRepr(key)}: `)
      writeRepr(value, out)
    })
    return out.add('}')
  }
  out.add(isNone(x) ? 'None' : isUndefined(x) ? 'Undefined' : `<${x.type}>`)
}

const ESCAPES: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }

function textRepr(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'"
  const body = text.replace(/[\\'"]|[^\P{C}\u{E000}-\u{F8FF}]|(?! )\p{Z}/gu, character => {
    if (character === '\\' || character === quote) return `\\${character}`
    if (character === '"' || character === "'") return character
    return ESCAPES[character] ?? codeEscape(character.codePointAt(0)!)
  })
  return quote + body + quote
}

function codeEscape(code: number): string {
  const [letter, digits] = code < 0x100 ? ['x', 2] : code < 0x10000 ? ['u', 4] : ['U', 8]
  return `\\${letter}${code.toString(16).padStart(digits as number, '0')}`
}

export interface JsonStyle {
  readonly indent: string | undefined
  readonly ensureAscii: boolean
  readonly sortKeys: boolean
  readonly separators: readonly [string, string]
}

/** Python's json.dumps. */
export function jsonOf(x: Value, style: JsonStyle): string {
  const out = new Output()
  writeJson(x, style, '\n', out)
  return out.text
}

function writeJson(x: Value, style: JsonStyle, line: string, out: Output): void {
  if (isText(x)) return out.add(jsonText(x.value, style))
  if (typeof x.value === 'number') return out.add(numberText(x as Value & { value: number }))
  if (typeof x.value === 'boolean') return out.add(String(x.value))
  if (isNone(x)) return out.add('null')
  if (!isList(x) && !isDict(x)) throw new Error(`${kind(x)} is not JSON serializable`)
  const isEmpty = isList(x) ? x.value.length === 0 : x.value.size === 0
  const [open, close] = isList(x) ? '[]' : '{}'
  if (isEmpty) return out.add(`${open}${close}`)
  const inner = style.indent === undefined ? '' : bounded(line + style.indent)
  const [between, colon] = style.separators
  out.add(open! + inner)
  if (isList(x)) out.join(x.value, between + inner, item => writeJson(item, style, inner, out))
  else
    out.join(sorted(x.value, style), between + inner, ([key, value]) => {
      out.add(jsonText(key, style) + colon)
      writeJson(value, style, inner, out)
    })
  out.add((style.indent === undefined ? '' : line) + close)
}

function sorted(dict: Map<string, Value>, { sortKeys }: JsonStyle): Iterable<[string, Value]> {
  return sortKeys ? [...dict].sort(([a], [b]) => compareTexts(a, b)) : dict
}

function jsonText(text: string, { ensureAscii }: JsonStyle): string {
  const json = JSON.stringify(text)
  if (!ensureAscii) return json
  return json.replace(/[\x7f-\uffff]/g, unit =>
    unit === '\x7f' ? unit : `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** Python's order of texts: by code points. */
export function compareTexts(a: string, b: string): number {
  const [x, y] = [Array.from(a), Array.from(b)]
  const at = x.findIndex((character, i) => character !== y[i])
  if (at < 0 || at >= y.length) return x.length - y.length
  return x[at]!.codePointAt(0)! - y[at]!.codePointAt(0)!
}
