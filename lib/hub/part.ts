/**
 * The beginning of a file that is being fetched. Two downloads never write one inode, so that what
 * one has verified no other can change.
 *
 * A part's name says who may write it. `HASH.moepp-ID.incomplete` has no writer: it is taken by
 * renaming it, which succeeds for one. `HASH.moepp-ID.MACHINE-PID.incomplete` has one, until that
 * process is known to be gone. The state of a process on another machine is unknown: such a part is
 * copied.
 */

import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { copyFile, type FileHandle, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { machine, type Writer, writerOf } from '../base/writer.js'

/** Parts without a write for this long are removed. */
const STALE_MS = 7 * 24 * 3600 * 1000

interface Kept {
  readonly path: string
  readonly size: number
  readonly writer: Writer
}

export class Part {
  private constructor(
    /** Of this part alone. */
    readonly path: string,
    private readonly blob: string,
    private readonly handle: FileHandle,
    private written: number,
    private state: 'open' | 'closed' | 'gone' = 'open',
  ) {}

  /** A part for `blob`, which goes on where an earlier one ended if `resume` is true. */
  static async take(blob: string, size: number, resume: boolean): Promise<Part> {
    const path = `${blob}.moepp-${randomUUID()}.${machine()}-${process.pid}.incomplete`
    if (resume) await takeOver(await keptParts(blob), path, size)
    const handle = await open(path, constants.O_RDWR | constants.O_CREAT)
    return new Part(path, blob, handle, (await handle.stat()).size)
  }

  get length(): number {
    return this.written
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const left = bytes.length - done
      const { bytesWritten } = await this.handle.write(bytes, done, left, this.written + done)
      done += bytesWritten
    }
    this.written += bytes.length
  }

  /** Ends writing. The bytes are on the disk then: a power cut leaves no hole in the file. */
  async finish(): Promise<void> {
    await this.handle.sync()
    await this.handle.close()
    this.state = 'closed'
  }

  async moveTo(blob: string): Promise<void> {
    await rename(this.path, blob)
    this.state = 'gone'
  }

  async discard(): Promise<void> {
    await rm(this.path, { force: true })
    this.state = 'gone'
  }

  /** Leaves what there is to the next download, unless it was moved or discarded. */
  async release(): Promise<void> {
    if (this.state === 'open') await this.handle.close()
    if (this.state === 'gone') return
    if (this.written === 0) await rm(this.path, { force: true })
    else await rename(this.path, `${this.blob}.moepp-${randomUUID()}.incomplete`).catch(() => {})
    this.state = 'gone'
  }
}

/** Removes parts that are not needed: those of `blob` without a writer, and stale ones. */
export async function removeParts(blob: string): Promise<void> {
  for (const { path, writer } of await keptParts(blob))
    if (writer === 'none') await rm(path, { force: true }).catch(() => {})
  const folder = dirname(blob)
  for (const name of await readdir(folder)) {
    const info = NAME.test(name) && (await stat(join(folder, name)).catch(() => undefined))
    // A writer, should there be one after all, loses its file; nothing wrong comes of that.
    if (info && Date.now() - info.mtimeMs > STALE_MS)
      await rm(join(folder, name), { force: true }).catch(() => {})
  }
}

/** Makes the longest usable part the one at `path`. */
async function takeOver(kept: readonly Kept[], path: string, size: number): Promise<void> {
  const usable = kept.filter(part => part.writer !== 'alive' && part.size <= size)
  for (const part of usable.sort((a, b) => b.size - a.size)) {
    try {
      if (part.writer === 'none') await rename(part.path, path)
      else await copyFile(part.path, path, constants.COPYFILE_FICLONE)
      return
    } catch {
      // Another download was first, or the disk is full.
      await rm(path, { force: true })
    }
  }
}

const NAME = /^([0-9a-f]{40,64})\.moepp-[0-9a-f-]{36}(?:\.([0-9a-f]{16})-(\d+))?\.incomplete$/

async function keptParts(blob: string): Promise<Kept[]> {
  const folder = dirname(blob)
  const parts: Kept[] = []
  for (const name of await readdir(folder)) {
    const [, hash, where, pid] = NAME.exec(name) ?? []
    if (hash !== basename(blob)) continue
    const path = join(folder, name)
    const info = await stat(path).catch(() => undefined)
    if (info) parts.push({ path, size: info.size, writer: writerOf(where, Number(pid)) })
  }
  return parts
}
