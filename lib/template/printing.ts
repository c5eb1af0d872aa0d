/** Values as Python writes them: str, repr, json.dumps. The library writes as JavaScript does. */
import {
  bounded,
  checkLength,
  compareTexts,
  isDict,
  isList,
  isNone,
  isNumber,
  isText,
  isUndefined,
  kind,
  type Value,
} from './values.js'

/**
 * Python's repr of a number. JavaScript has one kind, so 1.0 is the integer 1. Minus zero is a
 * float. An integer from 1e21 counts as a float, as JavaScript writes it.
 */
function numberText(x: Value & { value: number }): string {
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
  readonly #parts: string[] = []
  #length = 0

  get text(): string {
    return this.#parts.join('')
  }

  add(more: string): void {
    this.#length += more.length
    checkLength(this.#length)
    this.#parts.push(more)
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

function writeRepr(x: Value, out: Output): void {
  if (isList(x)) writeListRepr(x.value, x.type === 'TupleValue', out)
  else if (isDict(x)) writeDictRepr(x.value, out)
  else out.add(scalarRepr(x))
}

function writeListRepr(items: readonly Value[], isTuple: boolean, out: Output): void {
  out.add(isTuple ? '(' : '[')
  out.join(items, ', ', item => writeRepr(item, out))
  if (isTuple) out.add(items.length === 1 ? ',)' : ')')
  else out.add(']')
}

function writeDictRepr(dict: ReadonlyMap<string, Value>, out: Output): void {
  out.add('{')
  out.join(dict, ', ', ([key, value]) => {
    out.add(`${textRepr(key)}: `)
    writeRepr(value, out)
  })
  out.add('}')
}

function scalarRepr(x: Value): string {
  if (isText(x)) return textRepr(x.value)
  if (isNumber(x)) return numberText(x)
  if (typeof x.value === 'boolean') return x.value ? 'True' : 'False'
  if (isNone(x)) return 'None'
  return isUndefined(x) ? 'Undefined' : `<${x.type}>`
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
  const isEmpty = isList(x) ? x.value.length === 0 : isDict(x) && x.value.size === 0
  if ((!isList(x) && !isDict(x)) || isEmpty) {
    out.add(isEmpty ? (isList(x) ? '[]' : '{}') : scalarJson(x, style))
    return
  }
  const inner = style.indent === undefined ? '' : bounded(line + style.indent)
  const [between, colon] = style.separators
  out.add((isList(x) ? '[' : '{') + inner)
  if (isList(x)) {
    out.join(x.value, between + inner, item => writeJson(item, style, inner, out))
  } else {
    out.join(sorted(x.value, style), between + inner, ([key, value]) => {
      out.add(jsonText(key, style) + colon)
      writeJson(value, style, inner, out)
    })
  }
  out.add((style.indent === undefined ? '' : line) + (isList(x) ? ']' : '}'))
}

function scalarJson(x: Value, style: JsonStyle): string {
  if (isText(x)) return jsonText(x.value, style)
  if (isNumber(x)) return numberText(x)
  if (typeof x.value === 'boolean') return String(x.value)
  if (isNone(x)) return 'null'
  throw new Error(`${kind(x)} is not JSON serializable`)
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
