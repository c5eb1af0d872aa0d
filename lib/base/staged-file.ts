/**
 * A file that appears whole or not at all. It is written under a hidden name beside its target,
 * synced to disk, and renamed.
 */

import { type FileHandle, open, realpath, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { attempt, cannotWrite, removeStale, siblingName, syncDirectory } from './staging.js'

export class StagedFile {
  /** Written so far. */
  bytes = 0
  readonly #handle: FileHandle
  readonly #target: string

  private constructor(handle: FileHandle, target: string) {
    this.#handle = handle
    this.#target = target
  }

  /**
   * Gives the file its name once `write` has succeeded, in the place of an older one. If anything
   * fails, nothing is left.
   *
   * @throws what `write` throws; MoeppError ERR_CANNOT_WRITE
   */
  static async with<T>(target: string, write: (file: StagedFile) => Promise<T>): Promise<T> {
    const path = await placeOf(target)
    await attempt(`${path}: cannot be made`, () => removeStale(path))
    const staged = siblingName(path, 'new')
    const handle = await attempt(`${path}: cannot be made`, () => open(staged, 'wx'))
    try {
      const result = await write(new StagedFile(handle, path))
      await attempt(`${path}: cannot be written`, async () => {
        await handle.sync()
        await handle.close()
        await rename(staged, path)
        await syncDirectory(dirname(path))
      })
      return result
    } catch (error) {
      await handle.close().catch(() => {})
      await rm(staged, { force: true })
      throw error
    }
  }

  async append(bytes: Uint8Array): Promise<void> {
    await attempt(`${this.#target}: cannot be written`, async () => {
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await this.#handle.write(bytes, done, bytes.length - done)
        done += bytesWritten
      }
    })
    this.bytes += bytes.length
  }
}

/** The real path of a regular file, or of one that is to be made in a directory that exists. */
async function placeOf(target: string): Promise<string> {
  const given = resolve(target)
  const parent = await attempt(`${given}: cannot be made`, () => realpath(dirname(given)))
  const info = await stat(given).catch(() => undefined)
  if (!info) return join(parent, basename(given))
  // A rename would replace a pipe or a device.
  if (!info.isFile())
    throw cannotWrite(`${given}: cannot be replaced`, new Error('not a regular file'))
  return realpath(given)
}
