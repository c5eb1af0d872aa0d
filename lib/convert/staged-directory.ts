/**
 * A directory that appears whole or not at all. Its files are written into a hidden sibling and
 * synced to disk. Then the sibling is renamed to the target's name. A killed process leaves a
 * sibling whose name tells its maker; the next use for the same target removes it.
 */

import { mkdir, open, readdir, realpath, rename, rm } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { exists } from '../base/input-file.js'
import { attempt, cannotWrite, removeStale, siblingName, syncDirectory } from '../base/staging.js'
import { MoeppError } from '../errors.js'

export class StagedDirectory {
  private constructor(
    /** The directory's final path. */
    readonly target: string,
    /** The path of its files until then. */
    readonly path: string,
    private readonly replace: boolean,
  ) {}

  /** @param replace whether a target that exists may be replaced */
  static async create(target: string, replace: boolean): Promise<StagedDirectory> {
    // The parent's real path: a rename must not cross file systems.
    const given = resolve(target)
    await attempt(`${dirname(given)}: cannot be made`, () => makeDirectory(dirname(given)))
    const parent = await attempt(`${dirname(given)}: cannot be used`, () =>
      realpath(dirname(given)),
    )
    const path = join(parent, basename(given))
    await attempt(`${path}: cannot be made`, () => removeStale(path))
    if (!replace) await refuseExisting(path)
    const staged = siblingName(path, 'new')
    await attempt(`${staged}: cannot be made`, () => mkdir(staged))
    return new StagedDirectory(path, staged, replace)
  }

  /** Writes a small file and syncs it to disk. */
  async write(name: string, content: string | Uint8Array): Promise<void> {
    const path = join(this.path, name)
    await attempt(`${path}: cannot be written`, async () => {
      const file = await open(path, 'wx')
      try {
        await file.writeFile(content)
        await file.sync()
      } finally {
        await file.close()
      }
    })
  }

  /**
   * Gives the directory its name. Files in it that `write` did not make must have been synced
   * already.
   */
  async commit(): Promise<void> {
    await syncDirectory(this.path)
    if (this.replace && (await exists(this.target))) await this.swap()
    else await attempt(`${this.target}: cannot be made`, () => rename(this.path, this.target))
    await syncDirectory(dirname(this.target))
  }

  /** Removes everything that was written. Not after commit. */
  async discard(): Promise<void> {
    await rm(this.path, { recursive: true, force: true })
  }

  /**
   * Two renames, for there is no single one that exchanges directories. removeStale undoes the
   * first alone.
   */
  private async swap(): Promise<void> {
    const old = siblingName(this.target, 'old')
    await attempt(`${this.target}: cannot be replaced`, () => rename(this.target, old))
    try {
      await rename(this.path, this.target)
    } catch (cause) {
      await rename(old, this.target)
      throw cannotWrite(`${this.target}: cannot be replaced`, cause)
    }
    // Windows keeps the files that a program maps. The next use for the target removes them.
    await rm(old, { recursive: true, force: true }).catch(() => {})
  }
}

/** An empty directory may be taken: renaming onto it is atomic, too. */
async function refuseExisting(target: string): Promise<void> {
  try {
    if ((await readdir(target)).length === 0) return
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return
    if (code !== 'ENOTDIR') throw cannotWrite(`${target}: cannot be read`, error)
  }
  throw new MoeppError('ERR_CANNOT_WRITE', `${target}: exists already`)
}

/**
 * Like mkdir's own option `recursive`, which never returns where a file system refuses with ENOENT
 * (/proc does).
 */
async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') return
    if (code !== 'ENOENT' || dirname(path) === path) throw error
    await makeDirectory(dirname(path))
    await mkdir(path)
  }
}
