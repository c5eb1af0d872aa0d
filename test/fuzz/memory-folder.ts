/**
 * A folder in memory, in the place of the file system's functions: inputs are read at the speed of
 * the parsers. An access outside the folder, or a write, is kept as an offence.
 */

import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { resolve, sep } from 'node:path'

/** The path that the folder seems to have. */
export const FOLDER = resolve(sep, 'moepp-fuzz', 'model')

const READS = ['stat', 'open', 'readFile', 'readdir'] as const
const OTHERS = ['access', 'lstat', 'opendir', 'realpath', 'readlink', 'watch', 'statfs']
const WRITES = [
  'writeFile',
  'appendFile',
  'mkdir',
  'mkdtemp',
  'rename',
  'rm',
  'rmdir',
  'unlink',
].concat(['symlink', 'link', 'copyFile', 'cp', 'truncate', 'chmod', 'utimes'])

type Call = (path: unknown, ...rest: unknown[]) => unknown

export class MemoryFolder {
  files: ReadonlyMap<string, Buffer> = new Map()
  /** Accesses outside the folder, and writes. */
  readonly offences: string[] = []
  openHandles = 0
  /** Between inputs the functions are the file system's own. */
  active = false
  readonly #undo: (() => void)[] = []

  /** Takes the place of the functions, until `restore`. */
  constructor() {
    const promises = fs.promises as unknown as Record<string, Call>
    for (const name of [...READS, ...OTHERS, ...WRITES]) {
      if (promises[name]) this.#replace(promises, name, this.#watched(name, promises[name]))
    }
    const { existsSync } = fs
    this.#replace(fs as unknown as Record<string, Call>, 'existsSync', path => {
      return this.#isOurs(path, 'existsSync')
        ? this.#find(path) !== undefined
        : existsSync(path as string)
    })
    syncBuiltinESMExports()
  }

  restore(): void {
    for (const undo of this.#undo) undo()
    syncBuiltinESMExports()
  }

  #replace(object: Record<string, Call>, name: string, call: Call): void {
    const original = object[name]!
    object[name] = call
    this.#undo.push(() => {
      object[name] = original
    })
  }

  #watched(name: string, original: Call): Call {
    return async (path, ...rest) => {
      if (!this.active) return original(path, ...rest)
      const isRead = (READS as readonly string[]).includes(name)
      if (!isRead) this.offences.push(`${name} of ${String(path)}`)
      if (!isRead || !this.#isOurs(path, name)) return original(path, ...rest)
      // Of readFile: the encoding.
      const [flags] = rest
      if (
        name === 'open' &&
        flags !== 'r' &&
        flags !== undefined &&
        flags !== fs.constants.O_RDONLY
      )
        this.offences.push(`open of ${String(path)} with ${String(flags)}`)
      if (name === 'readdir') return this.#namesIn(path)
      const found = this.#find(path)
      if (found === undefined) throw missing(name, path)
      if (name === 'stat') return new Stats(found)
      if (found === null) throw missing(name, path, 'EISDIR')
      if (name === 'open') return new Handle(found, this)
      return typeof flags === 'string'
        ? found.toString(flags as BufferEncoding)
        : Buffer.from(found)
    }
  }

  /** A path with a NUL is left to the file system, which refuses it. */
  #isOurs(path: unknown, what: string): boolean {
    if (!this.active || typeof path !== 'string' || path.includes('\0')) return false
    const full = resolve(path)
    if (full === FOLDER || full.startsWith(FOLDER + sep)) return true
    this.offences.push(`${what} of ${path}`)
    return false
  }

  /** A folder without files does not exist. */
  #namesIn(path: unknown): string[] {
    const start = resolve(path as string) + sep
    const paths = [...this.files.keys()].map(name => FOLDER + sep + name)
    const names = paths.filter(name => name.startsWith(start)).map(name => name.slice(start.length))
    if (names.length === 0) throw missing('readdir', path)
    return names
  }

  /** null: the folder itself. */
  #find(path: unknown): Buffer | null | undefined {
    const full = resolve(path as string)
    return full === FOLDER ? null : this.files.get(full.slice(FOLDER.length + 1))
  }
}

/** Without a stack, which would take most of an input's time. */
function missing(name: string, path: unknown, code = 'ENOENT'): Error {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0
  const error = new Error(`${code}: ${name} '${String(path)}'`)
  Error.stackTraceLimit = stackTraceLimit
  return Object.assign(error, { code, syscall: name })
}

class Stats {
  readonly size: number
  constructor(private readonly found: Buffer | null) {
    this.size = found?.length ?? 0
  }
  isFile(): boolean {
    return this.found !== null
  }
  isDirectory(): boolean {
    return this.found === null
  }
}

/** The used part of FileHandle. */
class Handle {
  #isOpen = true
  constructor(
    private readonly bytes: Buffer,
    private readonly folder: MemoryFolder,
  ) {
    folder.openHandles++
  }

  async stat(): Promise<Stats> {
    return new Stats(this.bytes)
  }

  async readFile(): Promise<Buffer> {
    return Buffer.from(this.bytes)
  }

  async read(buffer: Buffer, offset: number, length: number, position: number) {
    const bytesRead = this.bytes.copy(buffer, offset, position, position + length)
    return { bytesRead, buffer }
  }

  async close(): Promise<void> {
    if (this.#isOpen) this.folder.openHandles--
    this.#isOpen = false
  }
}
