/** The files that `moepp routing` reads and writes, checked before a model is loaded. */

import { constants } from 'node:fs'
import { access, realpath, stat } from 'node:fs/promises'
import { basename, dirname, extname, join, resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { cannotWrite } from '../base/staging.js'
import { importParquet } from '../routing/export/parquet.js'
import { TABLE_NAMES } from '../routing/export/tables.js'
import { TOKEN_FILES } from '../routing/export/token-file.js'
import { UsageError } from './errors.js'
import { TextInput } from './text-input.js'

export interface RoutingPaths {
  /** Reports: .html or .json each. */
  readonly out?: readonly string[]
  /** A folder. */
  readonly tables?: string
  /** .parquet or .csv */
  readonly tokens?: string
}

export const REPORTS = ['.html', '.json'] as const

/** @throws UsageError; MoeppError ERR_NOT_FOUND, ERR_CANNOT_WRITE, ERR_BAD_PROMPT */
export async function checkPaths(
  names: readonly string[],
  models: readonly string[],
  paths: RoutingPaths,
  stdin: () => Readable,
): Promise<TextInput[]> {
  const { out = [], tokens } = paths
  for (const path of out) checkExtension('--out', path, REPORTS)
  if (tokens !== undefined) checkExtension('--tokens', tokens, TOKEN_FILES)
  const inputs = await Promise.all(names.map(name => TextInput.find(name, stdin)))
  refuseTwice(
    'the file',
    inputs.map(({ name, path }) => [name, path ?? name]),
  )
  refuseTwice(
    'the model',
    models.map(name => [name, name]),
  )
  const once = inputs.find(({ size }) => size === undefined)
  if (once && models.length > 1)
    throw new UsageError(`${once.name}: can be read once; several models need a file`)
  const written = [...out, ...(tokens === undefined ? [] : [tokens]), ...(await tablesOf(paths))]
  const targets = await Promise.all(
    written.map(async name => [name, await targetOf(name)] as const),
  )
  refuseTwice('the file', targets)
  const read = new Set(inputs.map(({ path }) => path))
  for (const [name, target] of targets)
    if (read.has(target)) throw new UsageError(`${name}: is a file that is read`)
  if (tokens?.endsWith('.parquet')) await importParquet()
  return inputs
}

function checkExtension(flag: string, path: string, expected: readonly string[]): void {
  if (expected.includes(extname(path))) return
  const hint = flag === '--out' ? '; the texts stand before the options' : ''
  throw new UsageError(`${flag}: expected a file ${expected.join(' or ')}, got ${path}${hint}`)
}

/** Pairs of a name and its identity. */
function refuseTwice(what: string, pairs: readonly (readonly [string, string])[]): void {
  const seen = new Set<string>()
  for (const [name, identity] of pairs) {
    if (seen.has(identity)) throw new UsageError(`${what} ${name} is given twice`)
    seen.add(identity)
  }
}

/** The real path of a file that is there or can be made. */
async function targetOf(path: string): Promise<string> {
  const given = resolve(path)
  try {
    const info = await stat(given).catch(() => undefined)
    if (info?.isDirectory()) throw new Error('is a directory')
    if (info && !info.isFile()) throw new Error('is not a regular file')
    const folder = await realpath(dirname(given))
    await access(folder, constants.W_OK)
    return info ? await realpath(given) : join(folder, basename(given))
  } catch (error) {
    throw cannotWrite(path, error)
  }
}

/** The files in the folder of tables; the folder itself, if it is to be made. */
async function tablesOf({ tables }: RoutingPaths): Promise<readonly string[]> {
  if (tables === undefined) return []
  const info = await stat(tables).catch(() => undefined)
  if (!info) return [tables]
  if (!info.isDirectory()) throw cannotWrite(tables, new Error('is not a directory'))
  return TABLE_NAMES.map(name => tableFile(tables, name))
}

export function tableFile(folder: string, name: string): string {
  return join(folder, `${name}.csv`)
}
