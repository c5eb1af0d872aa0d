/** Python's methods of str that the library lacks, or has without their arguments. */
import { strOf } from './printing.js'
import {
  checkLength,
  isDict,
  isNone,
  isText,
  itemsOf,
  ofBoolean,
  ofFunction,
  ofInteger,
  ofList,
  ofText,
  type Value,
} from './values.js'

type Method = (text: string, args: readonly Value[], named: ReadonlyMap<string, Value>) => Value

/** Whitespace of Python's str: U+FEFF is none, the separators from U+001C are. */
export const SPACE = '[\\t-\\r\\x1c-\\x20\\x85\\p{Z}]'
const BREAK = '[\\n-\\r\\x1c-\\x1e\\x85\\u2028\\u2029]'
const lineEnd = new RegExp(`\\r\\n|${BREAK}`)
const isSpace = new RegExp(`^${SPACE}$`, 'u')

const METHODS: Readonly<Record<string, Method>> = {
  strip: (text, args) => ofText(strip(text, args[0], true, true)),
  lstrip: (text, args) => ofText(strip(text, args[0], true, false)),
  rstrip: (text, args) => ofText(strip(text, args[0], false, true)),
  split: (text, [separator, most], named) =>
    ofTexts(split(text, separator ?? named.get('sep'), most ?? named.get('maxsplit'))),
  rsplit: (text, [separator, most], named) =>
    ofTexts(rsplit(text, separator ?? named.get('sep'), most ?? named.get('maxsplit'))),
  splitlines: text => ofTexts(splitLines(text)),
  replace: (text, [from, to, most], named) =>
    ofText(replace(text, textOf(from), textOf(to), most ?? named.get('count'))),
  join: (text, [items]) => ofText(joined(itemsOf(items!).map(textOf), text)),
  capitalize: text => ofText(capitalize(text)),
  title: text => ofText(title(text)),
  removeprefix: (text, [prefix]) =>
    ofText(text.startsWith(textOf(prefix)) ? text.slice(textOf(prefix).length) : text),
  removesuffix: (text, [suffix]) => ofText(removeSuffix(text, textOf(suffix))),
  find: (text, [part]) => ofInteger(codePointsBefore(text, text.indexOf(textOf(part)))),
  rfind: (text, [part]) => ofInteger(codePointsBefore(text, text.lastIndexOf(textOf(part)))),
  count: (text, [part]) => ofInteger(text.split(textOf(part)).length - 1),
  partition: (text, [part]) => ofTexts(partition(text, textOf(part))),
  isdigit: text => ofBoolean(/^\p{Nd}+$/u.test(text)),
  isalpha: text => ofBoolean(/^\p{L}+$/u.test(text)),
  isalnum: text => ofBoolean(/^[\p{L}\p{N}]+$/u.test(text)),
  isspace: text => ofBoolean(text !== '' && Array.from(text).every(c => isSpace.test(c))),
  isupper: text => ofBoolean(text === text.toUpperCase() && text !== text.toLowerCase()),
  islower: text => ofBoolean(text === text.toLowerCase() && text !== text.toUpperCase()),
}

/** The method of a text; undefined if this file has none of the name. */
export function textMethod(text: string, name: string): Value | undefined {
  const method = Object.hasOwn(METHODS, name) ? METHODS[name] : undefined
  return method && ofFunction(args => call(method, text, args))
}

/** The library puts the named arguments last, as a dict of its own type. */
function call(method: Method, text: string, args: readonly Value[]): Value {
  const last = args.at(-1)
  const named = last?.type === 'KeywordArgumentsValue' && isDict(last) ? last.value : new Map()
  return method(text, args.slice(0, named === last?.value ? -1 : undefined), named)
}

const ofTexts = (texts: readonly string[]) => ofList(texts.map(ofText))

function textOf(x: Value | undefined): string {
  if (isText(x)) return x.value
  throw new Error(`expected a str, got ${x ? strOf(x) : 'nothing'}`)
}

/** Python's strip: of whitespace, or of any of the characters of `which`. */
export function strip(text: string, which: Value | undefined, left: boolean, right: boolean) {
  const set = which === undefined || isNone(which) ? undefined : new Set(textOf(which))
  const goes = (character: string) => (set ? set.has(character) : isSpace.test(character))
  let [from, to] = [0, text.length]
  while (left && from < to) {
    const [first = ''] = text.slice(from, from + 2)
    if (!goes(first)) break
    from += first.length
  }
  while (right && to > from) {
    const last = [...text.slice(Math.max(from, to - 2), to)].at(-1)!
    if (!goes(last)) break
    to -= last.length
  }
  return text.slice(from, to)
}

function countOf(most: Value | undefined): number {
  const count = most?.value ?? -1
  if (typeof count !== 'number') throw new Error('expected an int as the count')
  return count < 0 ? Number.POSITIVE_INFINITY : count
}

function split(text: string, separator: Value | undefined, most: Value | undefined): string[] {
  const limit = countOf(most)
  if (separator === undefined || isNone(separator)) return splitAtSpace(text, limit)
  const parts = text.split(nonEmpty(separator))
  if (parts.length <= limit + 1) return parts
  return [...parts.slice(0, limit), parts.slice(limit).join(textOf(separator))]
}

function rsplit(text: string, separator: Value | undefined, most: Value | undefined): string[] {
  const limit = countOf(most)
  if (separator === undefined || isNone(separator)) {
    if (limit !== Number.POSITIVE_INFINITY) throw new Error('rsplit() needs a separator')
    return splitAtSpace(text, limit)
  }
  const parts = text.split(nonEmpty(separator))
  const kept = parts.length - limit
  if (kept <= 1) return parts
  return [parts.slice(0, kept).join(textOf(separator)), ...parts.slice(kept)]
}

function nonEmpty(separator: Value): string {
  if (textOf(separator) === '') throw new Error('empty separator')
  return textOf(separator)
}

function splitAtSpace(text: string, limit: number): string[] {
  const parts: string[] = []
  let rest = strip(text, undefined, true, false)
  const space = new RegExp(`${SPACE}+`, 'gu')
  while (rest !== '' && parts.length < limit) {
    space.lastIndex = 0
    const found = space.exec(rest)
    parts.push(found ? rest.slice(0, found.index) : rest)
    rest = found ? rest.slice(space.lastIndex) : ''
  }
  return rest === '' ? parts : [...parts, rest]
}

function splitLines(text: string): string[] {
  const lines = text.split(lineEnd)
  if (lines.at(-1) === '') lines.pop()
  return lines
}

export function replace(text: string, from: string, to: string, most: Value | undefined): string {
  const limit = countOf(most)
  const parts = from === '' ? ['', ...Array.from(text), ''] : text.split(from)
  const count = Math.min(limit, parts.length - 1)
  const head = joined(parts.slice(0, count + 1), to)
  return joined([head, ...parts.slice(count + 1)], from)
}

/** Refuses what is too long before it is made. */
export function joined(parts: readonly string[], separator: string): string {
  checkLength(parts.reduce((sum, part) => sum + part.length + separator.length, 0))
  return parts.join(separator)
}

export function capitalize(text: string): string {
  const [first = ''] = text
  return first.toUpperCase() + text.slice(first.length).toLowerCase()
}

/** A cased letter after one that is none begins a word. */
export function title(text: string): string {
  return text.replace(/\p{L}+/gu, capitalize)
}

function removeSuffix(text: string, suffix: string): string {
  return suffix !== '' && text.endsWith(suffix) ? text.slice(0, -suffix.length) : text
}

function partition(text: string, separator: string): string[] {
  const at = text.indexOf(separator)
  return at < 0 ? [text, '', ''] : [text.slice(0, at), separator, text.slice(at + separator.length)]
}

function codePointsBefore(text: string, at: number): number {
  return at < 0 ? -1 : Array.from(text.slice(0, at)).length
}
