/**
 * Decides whether a conversion may write to a place. It replaces only the output of another one.
 */

import { lstat, readdir, realpath } from 'node:fs/promises'
import { basename, resolve, sep } from 'node:path'
import { WEIGHT_FILES } from '../checkpoint/checkpoint.js'
import { MoeppError } from '../errors.js'
import { isOutputName } from './safetensors-layout.js'

/**
 * Copied as they are, where the checkpoint has them. tokenizer.json is one of them, or is made from
 * tokenizer.model.
 */
export const COPIED_FILES = [
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
  'chat_template.json',
]

/** Names in an error message. */
const MOST_NAMES = 3

/**
 * @param force whether a checkpoint that is at the target may be replaced
 * @throws MoeppError ERR_CANNOT_WRITE
 */
export async function checkTarget(source: string, target: string, force: boolean): Promise<void> {
  // An empty path would be that of the working directory.
  if (target === '')
    throw new MoeppError('ERR_CANNOT_WRITE', 'the path of the directory to make is empty')
  await refuseLink(target)
  await refuseOverlap(source, target)
  if (force) await refuseOthers(target)
}

/** It is the link that would be replaced, not what it leads to. */
async function refuseLink(target: string): Promise<void> {
  // Resolved, because a slash at the end would lead through the link.
  const stats = await lstat(resolve(target)).catch(() => undefined)
  if (!stats?.isSymbolicLink()) return
  throw new MoeppError(
    'ERR_CANNOT_WRITE',
    `${target}: is a symbolic link, name the directory itself`,
  )
}

/** The old files are read until the end, and --force removes what is at the target. */
async function refuseOverlap(source: string, target: string): Promise<void> {
  const from = await realpath(source).catch(() => resolve(source))
  const to = await realpath(target).catch(() => resolve(target))
  if (from !== to && !from.startsWith(to + sep)) return
  throw new MoeppError(
    'ERR_CANNOT_WRITE',
    `${target}: holds the checkpoint that is converted, ${basename(from)}`,
  )
}

/**
 * A slip of the hand must not remove a home directory, nor what somebody has put beside a
 * checkpoint.
 */
async function refuseOthers(target: string): Promise<void> {
  const entries = await readdir(target, { withFileTypes: true }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return []
      throw new MoeppError('ERR_CANNOT_WRITE', `${target}: is not a directory`, { cause: error })
    },
  )
  if (entries.length === 0) return
  const names = entries.map(entry => entry.name)
  if (!names.includes('config.json') || !WEIGHT_FILES.some(file => names.includes(file.name))) {
    throw new MoeppError('ERR_CANNOT_WRITE', `${target}: is not a checkpoint, and is not replaced`)
  }
  const others = entries
    .filter(entry => entry.isDirectory() || !isWritten(entry.name))
    .map(entry => (entry.isDirectory() ? `${entry.name}/` : entry.name))
    .sort()
  if (others.length === 0) return
  const more = others.length > MOST_NAMES ? ` and ${others.length - MOST_NAMES} more` : ''
  throw new MoeppError(
    'ERR_CANNOT_WRITE',
    `${target}: contains files that convert did not write, and is not replaced: ${others.slice(0, MOST_NAMES).join(', ')}${more}`,
  )
}

function isWritten(name: string): boolean {
  return name === 'config.json' || COPIED_FILES.includes(name) || isOutputName(name)
}
