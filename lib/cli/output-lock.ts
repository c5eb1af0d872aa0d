/**
 * Keeps two processes from writing to one file. Each puts a lock of its own beside the file, then
 * looks for others. Of two that start at once, one at least sees the other. A lock's name holds the
 * process id, so that the lock of a process that is gone can be removed.
 */

import { readdir, realpath, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { machine, writerOf } from '../base/writer.js'
import { MoeppError } from '../errors.js'

/** A file may be writable in a folder that is not, as where a container mounts it. */
const NO_LOCKS = ['EACCES', 'EPERM', 'EROFS']

/**
 * Locks an existing file against other processes of this machine. Resolves to what unlocks it.
 * @throws MoeppError ERR_CANNOT_WRITE if another process has locked it
 */
export async function lockOutput(path: string): Promise<() => Promise<void>> {
  const file = await realpath(path)
  const own = `${file}.moepp-${machine()}-${process.pid}.lock`
  try {
    // An earlier process with this id may have left one.
    await rm(own, { force: true })
    await writeFile(own, '', { flag: 'wx' })
  } catch (error) {
    if (!NO_LOCKS.includes((error as NodeJS.ErrnoException).code ?? '')) throw error
    return async () => {}
  }
  const unlock = () => rm(own, { force: true })
  try {
    await refuseOthers(path, file, own)
  } catch (error) {
    await unlock()
    throw error
  }
  return unlock
}

/** Removes locks of processes that are gone. */
async function refuseOthers(path: string, file: string, own: string): Promise<void> {
  const [folder, prefix] = [dirname(file), `${basename(file)}.moepp-`]
  for (const name of await readdir(folder)) {
    const lock = join(folder, name)
    if (lock === own || !name.startsWith(prefix)) continue
    const [, where, pid] = /^([0-9a-f]{16})-(\d+)\.lock$/.exec(name.slice(prefix.length)) ?? []
    if (where === undefined) continue
    const writer = writerOf(where, Number(pid))
    if (writer === 'none') await rm(lock, { force: true })
    if (writer !== 'alive') continue
    const message = `${path}: another process writes to it (${pid}). If it does not, delete ${lock}`
    throw new MoeppError('ERR_CANNOT_WRITE', message)
  }
}
