/**
 * Edits config.json as text. Parsing and writing it again would turn `2.0` into `2`, which upstream
 * refuses as a factor.
 */

import { isDeepStrictEqual } from 'node:util'
import { parseJsonObject } from '../base/json.js'
import { MoeppError } from '../errors.js'

/** `text` with torch_dtype (and its newer name `dtype`, where it is given) set to `value`. */
export function withTorchDtype(text: string, value: string, where: string): string {
  const before = parseJsonObject(text, where)
  const keys = ['dtype', 'torch_dtype'].filter(key => Object.hasOwn(before, key))
  let edited = text
  for (const key of keys) {
    edited = edited.replace(
      new RegExp(`(?<!\\\\)("${key}"\\s*:\\s*)(null|"[^"\\\\]*")`),
      `$1"${value}"`,
    )
  }
  if (keys.length === 0) {
    const separator = Object.keys(before).length > 0 ? ',' : ''
    edited = edited.replace('{', `{\n  "torch_dtype": "${value}"${separator}`)
  }
  const expected = {
    ...before,
    ...Object.fromEntries((keys[0] ? keys : ['torch_dtype']).map(key => [key, value])),
  }
  if (isDeepStrictEqual(parseJsonObject(edited, where), expected)) return edited
  throw new MoeppError('ERR_BAD_CONFIG', `${where}: torch_dtype could not be set to ${value}`)
}

/** `text` without a key of the outermost object, whose value may be anything. */
export function withoutKey(text: string, key: string, where: string): string {
  const before = parseJsonObject(text, where)
  if (!Object.hasOwn(before, key)) return text
  const { [key]: _, ...expected } = before
  for (const match of text.matchAll(new RegExp(`(,\\s*)?"${key}"\\s*:\\s*`, 'g'))) {
    const end = valueEnd(text, match.index + match[0].length)
    // Of the first key, the comma behind goes.
    const comma = match[1] === undefined ? /^\s*,\s*/.exec(text.slice(end)) : null
    const edited = text.slice(0, match.index) + text.slice(end + (comma?.[0].length ?? 0))
    if (isObjectText(edited, expected)) return edited
  }
  throw new MoeppError('ERR_BAD_CONFIG', `${where}: ${key} could not be removed`)
}

/** The place behind the JSON value that begins at `start`. */
function valueEnd(text: string, start: number): number {
  let depth = 0
  for (const token of text
    .slice(start)
    .matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"|[[\]{},]|[^\s"[\]{},]+/g)) {
    const [word] = token
    if (word === '{' || word === '[') depth++
    if (word === '}' || word === ']') depth--
    if (depth === 0) return start + token.index + word.length
  }
  return text.length
}

function isObjectText(text: string, expected: object): boolean {
  try {
    return isDeepStrictEqual(parseJsonObject(text, ''), expected)
  } catch {
    return false
  }
}
