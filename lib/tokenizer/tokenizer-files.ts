/** Reads the small files of a tokenizer. */
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { decodeUtf8 } from '../base/input-file.js'
import { isObject, parseAnyJson } from '../base/json.js'
import { MoeppError } from '../errors.js'
import { badTokenizer } from './json-form.js'

export const CONFIG_FILE = 'tokenizer_config.json'
/** Real ones stay below 32 MB. */
const MAX_FILE_SIZE_BYTES = 256 * 2 ** 20

/** The file's bytes; undefined if there is no such file. */
export async function readOptional(path: string): Promise<Uint8Array | undefined> {
  try {
    const stats = await stat(path)
    // Reading a pipe would wait for ever.
    if (!stats.isFile()) throw new MoeppError('ERR_NOT_FOUND', `${path}: is not a file`)
    const { size } = stats
    if (size > MAX_FILE_SIZE_BYTES) {
      throw badTokenizer(path, 'the size in bytes', `<= ${MAX_FILE_SIZE_BYTES}`, size)
    }
    return await readFile(path)
  } catch (cause) {
    if (cause instanceof MoeppError) throw cause
    const { code, message } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw new MoeppError('ERR_NOT_FOUND', `${path}: cannot be read: ${message}`, { cause })
  }
}

export function parseTokenizerJson(bytes: Uint8Array, file: string): unknown {
  const text = decodeUtf8(bytes, file, 'ERR_BAD_TOKENIZER')
  return parseAnyJson(text, file, 'ERR_BAD_TOKENIZER')
}

/** The JSON object of a file; empty if there is no such file. */
export async function readJsonRecord(
  directory: string,
  name: string,
): Promise<Record<string, unknown>> {
  const path = join(directory, name)
  const bytes = await readOptional(path)
  if (bytes === undefined) return {}
  const value = parseTokenizerJson(bytes, path)
  if (!isObject(value)) throw badTokenizer(path, 'the content', 'an object', value)
  return value
}
