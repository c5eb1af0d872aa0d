/**
 * JSON of files that are not trusted. JSON.parse keeps the last of two equal keys and says nothing.
 * So a file could show one tensor to a checker and another to the loader. Duplicates are refused
 * here.
 */

import { MoeppError, type MoeppErrorCode } from '../errors.js'

/**
 * Real files nest 4 deep. Recursive functions such as isDeepStrictEqual overflow the stack at 5000.
 */
const MAX_DEPTH = 100

/**
 * Parses `text`. A key that occurs twice in one object, or more than 100 levels are ERR_BAD_FILE,
 * as is a syntax error.
 */
export function parseJson(text: string, where: string): unknown {
  const value = parseAnyJson(text, where, 'ERR_BAD_FILE')
  const problem = structuralProblem(text)
  if (problem !== undefined) throw new MoeppError('ERR_BAD_FILE', `${where}: ${problem}`)
  return value
}

/** Parses `text`, whatever its structure. A syntax error is `code`. */
export function parseAnyJson(text: string, where: string, code: MoeppErrorCode): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    const reason = printable((cause as Error).message)
    throw new MoeppError(code, `${where}: not valid JSON: ${reason}`, { cause })
  }
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

/**
 * A value from an untrusted file or a caller, fit for a message: escaped, of bounded length, and
 * with its type visible.
 */
export function show(value: unknown): string {
  if (typeof value === 'string') {
    return printable(JSON.stringify(value.length > 120 ? `${value.slice(0, 120)}...` : value))
  }
  if (Array.isArray(value)) {
    const items = value.slice(0, 8).map(item => (Array.isArray(item) ? '[...]' : show(item)))
    return `[${items.join(', ')}${value.length > 8 ? ', ...' : ''}]`
  }
  if (value === undefined) return 'nothing'
  if (typeof value === 'object' && value !== null) return 'an object'
  return typeof value === 'function' || typeof value === 'bigint'
    ? `a ${typeof value}`
    : String(value)
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
