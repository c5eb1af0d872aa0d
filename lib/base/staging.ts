/**
 * Names of what is written beside a target and then renamed to it. A killed process leaves a
 * sibling whose name tells its maker; the next use for the same target removes it.
 */

import { randomBytes } from 'node:crypto'
import { open, readdir, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { MoeppError } from '../errors.js'
import { exists } from './input-file.js'
import { machine, writerOf } from './writer.js'

type Role = 'new' | 'old'

/** `.NAME.moepp-ROLE-MACHINE-PID-RANDOM` beside the target. */
export function siblingName(target: string, role: Role): string {
  const random = randomBytes(4).toString('hex')
  return join(
    dirname(target),
    `${siblingPrefix(target)}${role}-${machine()}-${process.pid}-${random}`,
  )
}

function siblingPrefix(target: string): string {
  return `.${basename(target)}.moepp-`
}

/**
 * Removes what killed processes have left beside the target. Windows keeps a file that a program
 * maps: a later use removes it.
 */
export async function removeStale(target: string): Promise<void> {
  const folder = dirname(target)
  const prefix = siblingPrefix(target)
  for (const name of await readdir(folder)) {
    if (!name.startsWith(prefix)) continue
    const [, role, owner, pid] =
      /^(new|old)-(.+)-(\d+)-[0-9a-f]{8}$/.exec(name.slice(prefix.length)) ?? []
    if (owner === undefined || writerOf(owner, Number(pid)) !== 'none') continue
    const path = join(folder, name)
    // Killed between the two renames of a swap: the old directory is the only whole one.
    if (role === 'old' && !(await exists(target))) await rename(path, target)
    else await rm(path, { recursive: true, force: true }).catch(() => {})
  }
}

/** Brings a directory's names to the disk. Windows does so by itself, and refuses to be asked. */
export async function syncDirectory(path: string): Promise<void> {
  if (process.platform === 'win32') return
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/** @throws MoeppError ERR_CANNOT_WRITE with `what`, for any failure of `work` */
export async function attempt<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw cannotWrite(what, error)
  }
}

export function cannotWrite(what: string, cause: unknown): MoeppError {
  const { code, message } = cause as NodeJS.ErrnoException
  return new MoeppError('ERR_CANNOT_WRITE', `${what}: ${code ?? message}`, { cause })
}
