/** The output file of `moepp generate --prompts`: one JSON object a line. A run can resume it. */

import { type FileHandle, open } from 'node:fs/promises'
import { MoeppError } from '../errors.js'
import type { BatchRequest, PromptFile } from './batch-input.js'
import { UsageError } from './errors.js'
import { type Line, splitLines } from './lines.js'
import { lockOutput } from './output-lock.js'

/** A line of the results. `id` comes first, so even a torn line can be recognised. */
export interface BatchResult {
  readonly id: string | number
  readonly requestHash: string
  readonly error?: object
}

const START = '{"id":'

/** The routing of a long text takes many. A string holds no more. */
const MAX_LINE_BYTES = 2 ** 29 - 24

/** Results that a file has already. */
export interface Resumed {
  readonly done: number
  readonly failed: number
}

export class ResultFile {
  readonly #path: string
  readonly #handle: FileHandle

  readonly #unlock: () => Promise<void>
  /** Bytes that the file must have. A device or a pipe has none. */
  #size: number | undefined

  private constructor(path: string, handle: FileHandle, unlock: () => Promise<void>) {
    this.#path = path
    this.#handle = handle
    this.#unlock = unlock
  }

  /**
   * Opens or creates the file. It must not be the one that the prompts are read from, nor one that
   * another process writes to.
   */
  static async open(path: string, input: PromptFile): Promise<ResultFile> {
    const from = await input.stat()
    let handle: FileHandle | undefined
    try {
      handle = await open(path, 'a+')
      const to = await handle.stat()
      if (from?.isFile() && from.ino === to.ino && from.dev === to.dev)
        throw new UsageError(`--out: ${path} is the file that the prompts are read from`)
      const unlock = to.isFile() ? await lockOutput(path) : async () => {}
      return new ResultFile(path, handle, unlock)
    } catch (error) {
      await handle?.close()
      if (error instanceof UsageError || error instanceof MoeppError) throw error
      throw cannotWrite(path, error)
    }
  }

  /**
   * Takes the requests that the file answers already off `requests`, and cuts a torn last line.
   * @throws MoeppError ERR_CANNOT_WRITE, with the file as it was, if it answers other requests
   */
  async resume(requests: AsyncIterator<BatchRequest, void>, input: string): Promise<Resumed> {
    // A device or a pipe holds nothing to go on from.
    if (!(await this.#handle.stat()).isFile()) return { done: 0, failed: 0 }
    let [done, failed, end] = [0, 0, 0]
    const bytes = this.#handle.createReadStream({ start: 0, autoClose: false })
    for await (const line of splitLines(bytes, MAX_LINE_BYTES)) {
      if (!line.isWhole) {
        if (!isTorn(line)) throw this.#otherFile(line)
        await this.#handle.truncate(end)
        break
      }
      const result = parseResult(line)
      if (!result) throw this.#otherFile(line)
      const { value: request } = await requests.next()
      if (!request) throw this.#otherRequests(line, `${input} has only ${done} prompts`)
      if (request.id !== result.id || request.requestHash !== result.requestHash) {
        const which = `line ${request.line} of ${input}`
        throw this.#otherRequests(line, `${which} has another prompt, option or model`)
      }
      done++
      if (result.error !== undefined) failed++
      end = line.end
    }
    this.#size = end
    return { done, failed }
  }

  /** Adds a result. After a failure the file ends within it. */
  async write(line: string): Promise<void> {
    try {
      await this.#checkSize()
      await this.#handle.appendFile(line)
    } catch (error) {
      throw error instanceof MoeppError ? error : cannotWrite(this.#path, error)
    }
    if (this.#size !== undefined) this.#size += Buffer.byteLength(line)
  }

  async close(): Promise<void> {
    await this.#handle.close()
    await this.#unlock()
  }

  /** No lock is seen by a process of another machine. */
  async #checkSize(): Promise<void> {
    if (this.#size === undefined) return
    const { size } = await this.#handle.stat()
    if (size === this.#size) return
    const message = `${this.#path}: another process writes to it: expected ${this.#size} bytes, got ${size}`
    throw new MoeppError('ERR_CANNOT_WRITE', message)
  }

  #otherFile({ number }: Line): MoeppError {
    const message = `${this.#path}: line ${number} is not a result of --prompts; the file is not changed`
    return new MoeppError('ERR_CANNOT_WRITE', message)
  }

  #otherRequests({ number }: Line, reason: string): MoeppError {
    const message = `${this.#path}: line ${number} is the result of another run: ${reason}`
    return new MoeppError('ERR_CANNOT_WRITE', `${message}. Name another file, or delete this one`)
  }
}

function parseResult({ text = '' }: Line): BatchResult | undefined {
  try {
    const value = JSON.parse(text)
    return text.startsWith(START) && typeof value.requestHash === 'string' ? value : undefined
  } catch {
    return undefined
  }
}

/** True if a line without an end can be the beginning of a result. */
function isTorn(line: Line): boolean {
  const { text, head } = line
  if (!head.startsWith(START.slice(0, head.length))) return false
  // It may lack only its line break, or more. A whole object of another kind is no torn result.
  return text === undefined || !isJson(text) || parseResult(line) !== undefined
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

function cannotWrite(path: string, cause: unknown): MoeppError {
  const message = `${path}: ${(cause as Error).message}`
  return new MoeppError('ERR_CANNOT_WRITE', message, { cause })
}
