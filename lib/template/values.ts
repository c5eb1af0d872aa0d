/** The values of @huggingface/jinja, and how Python takes them: as items, as numbers, as equal. */
import { Environment } from '@huggingface/jinja'

/** A value of the library, whose classes it does not export. */
export interface Value {
  readonly type: string
  readonly value: unknown
  readonly builtins: ReadonlyMap<string, Value>
  __bool__(): { readonly value: boolean }
}
export type Callable = (args: Value[], scope: Environment) => Value

const MAX_TEXT = 8_000_000
const MAX_ITEMS = 1_000_000

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

export const isNumber = (x: Value): x is Value & { value: number } => typeof x.value === 'number'

/** The number that Python computes with; undefined for what is none. */
export function numberOf(x: Value): number | undefined {
  return typeof x.value === 'number' || typeof x.value === 'boolean' ? Number(x.value) : undefined
}

/** The items, keys or characters of a loop. Python takes an undefined value for no items. */
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

/** `text`, unless a template made it too long. */
export function bounded(text: string): string {
  checkLength(text.length)
  return text
}

/** Of a text in UTF-16 units. */
export function checkLength(length: number): void {
  if (length > MAX_TEXT) throw new Error(`a text has more than ${MAX_TEXT} characters`)
}

/** Of a list. */
export function checkItems(count: number): void {
  if (count > MAX_ITEMS) throw new Error(`a list has more than ${MAX_ITEMS} items`)
}

/** Python's order of texts: by code points. */
export function compareTexts(a: string, b: string): number {
  const [x, y] = [Array.from(a), Array.from(b)]
  const at = x.findIndex((character, i) => character !== y[i])
  if (at < 0 || at >= y.length) return x.length - y.length
  return x[at]!.codePointAt(0)! - y[at]!.codePointAt(0)!
}
