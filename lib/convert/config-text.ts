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
