/** A text of any length: a file or standard input, read in pieces. */

import { constants, createReadStream } from 'node:fs'
import { access, realpath, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { notReadable } from '../base/input-file.js'
import { MoeppError } from '../errors.js'

export class TextInput {
  /** As it was given. */
  readonly name: string
  /** That of a file without links: equal paths, equal files. Absent for standard input. */
  readonly path: string | undefined
  /** Bytes; undefined where they are not known. */
  readonly size: number | undefined
  readonly #stdin: () => Readable
  #bytes = 0
  #characters = 0

  private constructor(
    name: string,
    stdin: () => Readable,
    file?: { readonly path: string; readonly size: number | undefined },
  ) {
    this.name = name
    this.#stdin = stdin
    this.path = file?.path
    this.size = file?.size
  }

  /**
   * Looks whether the file can be read. `name` is - for `stdin`.
   *
   * @throws MoeppError ERR_NOT_FOUND; ERR_BAD_PROMPT for an empty file
   */
  static async find(name: string, stdin: () => Readable): Promise<TextInput> {
    if (name === '-') return new TextInput(name, stdin)
    const found = await lookAt(name)
    if (found.size === 0) throw new MoeppError('ERR_BAD_PROMPT', `${name}: the file is empty`)
    return new TextInput(name, stdin, found)
  }

  /**
   * The text, from its start. Bytes that are no UTF-8 are an error: other characters in their place
   * would be routed, too. A byte order mark is left out. A file that grows meanwhile ends where it
   * ended when it was found; one that shrinks is an error.
   *
   * @throws MoeppError ERR_NOT_FOUND, ERR_BAD_FILE
   */
  async *read(): AsyncGenerator<string, void> {
    this.#bytes = 0
    this.#characters = 0
    const decoder = new TextDecoder('utf-8', { fatal: true })
    for await (const chunk of this.#chunks()) {
      const text = this.#decode(() => decoder.decode(chunk, { stream: true }), chunk.length)
      if (text !== '') yield text
    }
    if (this.size !== undefined && this.#bytes < this.size) {
      const sizes = `${this.#bytes} bytes, ${this.size} before`
      throw new MoeppError('ERR_BAD_FILE', `${this.name}: became shorter meanwhile: ${sizes}`)
    }
    const rest = this.#decode(() => decoder.decode(), 0)
    if (rest !== '') yield rest
  }

  /** Bytes of the first `characters` of what was read; near, where more was. */
  bytesOf(characters: number): number {
    return this.#characters === 0 ? 0 : (this.#bytes * characters) / this.#characters
  }

  async *#chunks(): AsyncGenerator<Buffer, void> {
    const range = this.size === undefined ? {} : { end: this.size - 1 }
    const stream = this.path === undefined ? this.#stdin() : createReadStream(this.path, range)
    try {
      for await (const chunk of stream) yield chunk
    } catch (error) {
      throw notReadable(this.name, error)
    }
  }

  #decode(decode: () => string, bytes: number): string {
    const end = this.#bytes + bytes
    try {
      const text = decode()
      this.#bytes = end
      this.#characters += text.length
      return text
    } catch (cause) {
      const place = bytes === 0 ? 'at the end' : `between bytes ${this.#bytes} and ${end}`
      throw new MoeppError('ERR_BAD_FILE', `${this.name}: not UTF-8 text, ${place}`, { cause })
    }
  }
}

async function lookAt(name: string) {
  try {
    const info = await stat(name)
    if (info.isDirectory()) throw new MoeppError('ERR_NOT_FOUND', `${name}: is a directory`)
    // A pipe, such as a shell's <(command), has a name but no path.
    const path = info.isFile() ? await realpath(name) : resolve(name)
    await access(path, constants.R_OK)
    return { path, size: info.isFile() ? info.size : undefined }
  } catch (error) {
    throw notReadable(name, error)
  }
}
