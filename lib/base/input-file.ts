/**
 * A file that is read in pieces at given positions. Checkpoints are larger than memory, and their
 * headers lie: every read is checked against the file's size before anything is allocated.
 */

import { type FileHandle, open, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { MoeppError, type MoeppErrorCode } from '../errors.js'

/** The first bytes of a Git LFS pointer, which a clone without git-lfs has for each large file. */
const LFS_POINTER = 'version https://git-lfs.github.com'

export class InputFile {
  private constructor(
    readonly path: string,
    readonly size: number,
    private readonly handle: FileHandle,
  ) {}

  /** Opens a regular file; anything else (a pipe would block for ever) is refused. */
  static async open(path: string): Promise<InputFile> {
    try {
      const info = await stat(path)
      if (!info.isFile()) throw new MoeppError('ERR_NOT_FOUND', `${path}: not a regular file`)
      const handle = await open(path, 'r')
      return new InputFile(path, info.size, handle)
    } catch (error) {
      throw notReadable(path, error)
    }
  }

  /** Opens the file, runs `use` and closes the file again, whatever happens. */
  static async with<T>(path: string, use: (file: InputFile) => Promise<T>): Promise<T> {
    const file = await InputFile.open(path)
    try {
      await file.refuseLfsPointer()
      return await use(file)
    } finally {
      await file.handle.close()
    }
  }

  /** Exactly `length` bytes from `offset`; `what` names them in the error. */
  async read(offset: number, length: number, what: string): Promise<Buffer> {
    if (offset < 0 || length < 0 || offset + length > this.size) {
      throw this.bad(
        `${what} takes bytes ${offset} to ${offset + length}, the file has ${this.size}`,
      )
    }
    const buffer = Buffer.alloc(length)
    let done = 0
    while (done < length) {
      const { bytesRead } = await this.handle.read(buffer, done, length - done, offset + done)
      if (bytesRead === 0)
        throw this.bad(`${what} ends early: the file became shorter while it was read`)
      done += bytesRead
    }
    return buffer
  }

  /** An error about this file's bytes. */
  bad(message: string, cause?: unknown): MoeppError {
    return new MoeppError('ERR_BAD_FILE', `${this.path}: ${message}`, { cause })
  }

  private async refuseLfsPointer(): Promise<void> {
    if (this.size < LFS_POINTER.length || this.size > 1024) return
    const start = await this.read(0, LFS_POINTER.length, 'the start')
    if (start.toString('latin1') !== LFS_POINTER) return
    throw this.bad(
      `this is a Git LFS pointer, not ${basename(this.path)} itself; fetch it with \`git lfs pull\``,
    )
  }
}

export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

/** The whole text of a small file. */
export async function readText(path: string, limitBytes: number): Promise<string> {
  return InputFile.with(path, async file => {
    if (file.size > limitBytes) throw file.bad(`${file.size} bytes, at most ${limitBytes} are read`)
    return decodeUtf8(await file.read(0, file.size, 'the file'), file.path)
  })
}

/** @throws MoeppError `code` */
export function decodeUtf8(
  bytes: Uint8Array,
  where: string,
  code: MoeppErrorCode = 'ERR_BAD_FILE',
): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (cause) {
    throw new MoeppError(code, `${where}: not UTF-8 text`, { cause })
  }
}

/** MoeppError ERR_NOT_FOUND for what opening or reading a file throws. */
export function notReadable(path: string, error: unknown): MoeppError {
  if (error instanceof MoeppError) return error
  const code = (error as NodeJS.ErrnoException).code
  const why =
    code === 'ENOENT' || code === 'ENOTDIR' ? 'no such file' : `cannot be read (${code ?? error})`
  return new MoeppError('ERR_NOT_FOUND', `${path}: ${why}`, { cause: error })
}
