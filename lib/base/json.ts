/**
 * JSON of files that are not trusted. JSON.parse keeps the last of two equal keys and says nothing.
 * So a file could show one tensor to a checker and another to the loader. Duplicates are refused
 * here.
 */

import { MoeppError } from '../errors.js'

/**
 * Real files nest 4 deep. Recursive functions such as isDeepStrictEqual overflow the stack at 5000.
 */
const MAX_DEPTH = 100

/**
 * Parses `text`. A syntax error, a key that occurs twice in one object, or more than 100 levels are
 * ERR_BAD_FILE.
 */
export function parseJson(text: string, where: string): unknown {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new MoeppError('ERR_BAD_FILE', `${where}: not valid JSON: ${printable(reason)}`, {
      cause,
    })
  }
  const problem = structuralProblem(text)
  if (problem !== undefined) throw new MoeppError('ERR_BAD_FILE', `${where}: ${problem}`)
  return value
}

/** parseJson for a document that has to be an object. */
export function parseJsonObject(text: string, where: string): Record<string, unknown> {
  const value = parseJson(text, where)
  if (isObject(value)) return value
  throw new MoeppError('ERR_BAD_FILE', `${where}: expected a JSON object`)
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A value from an untrusted file, fit for a message: escaped and of bounded length. */
export function show(value: unknown): string {
  if (typeof value === 'string') {
    return printable(JSON.stringify(value.length > 120 ? `${value.slice(0, 120)}...` : value))
  }
  if (Array.isArray(value)) {
    const items = value.slice(0, 8).map(item => (Array.isArray(item) ? '[...]' : show(item)))
    return `[${items.join(', ')}${value.length > 8 ? ', ...' : ''}]`
  }
  if (value === undefined) return 'nothing'
  return typeof value === 'object' && value !== null ? 'an object' : String(value)
}

/** `text` with its control characters escaped, which a terminal would obey. */
export function printable(text: string): string {
  return text.replace(
    /\p{Cc}/gu,
    character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/**
 * A key that an object of `text` holds twice, or nesting that is too deep. The text is valid JSON
 * by now. So a string followed by a colon is a key, and a bracket outside of a string is structure.
 * It is a loop over characters and not a regular expression: those need stack in proportion to a
 * string's length.
 */
function structuralProblem(text: string): string | undefined {
  const open: (Set<string> | undefined)[] = []
  for (let at = 0; at < text.length; at++) {
    const char = text[at]
    if (char === '{') open.push(new Set())
    else if (char === '[') open.push(undefined)
    else if (char === '}' || char === ']') open.pop()
    else if (char === '"') {
      const end = stringEnd(text, at)
      if (nextChar(text, end) === ':') {
        const key: string = JSON.parse(text.slice(at, end))
        const keys = open.at(-1)
        if (keys?.has(key)) return `the key ${show(key)} occurs twice in one object`
        keys?.add(key)
      }
      at = end - 1
    }
    if (open.length > MAX_DEPTH) return `nested deeper than ${MAX_DEPTH} levels`
  }
  return undefined
}

/** One past the closing quote of the string that opens at `start`. */
function stringEnd(text: string, start: number): number {
  let at = start + 1
  while (text[at] !== '"') at += text[at] === '\\' ? 2 : 1
  return at + 1
}

function nextChar(text: string, start: number): string | undefined {
  let at = start
  while (' \t\n\r'.includes(text[at] ?? '-')) at++
  return text[at]
}
