/** A file of results: one JSON object a line. A later run can go on from it. */

import type { Stats } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { MoeppError } from '../errors.js'
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

/** Work that has one line of results. */
export interface ResultRequest {
  readonly id: string | number
  /** Of everything that decides the result: equal hashes, equal results. */
  readonly requestHash: string
}

/** The command whose results a file has. */
export interface ResultSource {
  /** The option that names the inputs, for messages. */
  readonly option: string
  /** A thing that has a result, in the plural. */
  readonly things: string
  /** Files that are read. They must not be the results' own. */
  readonly inputs: readonly (Stats | undefined)[]
}

/** The requests of a run that may have results already. */
export interface Resuming<Request extends ResultRequest> {
  readonly requests: AsyncIterator<Request, void>
  /** As messages name all requests, and one. */
  readonly input: string
  readonly place: (request: Request) => string
  /** Takes a result that was there; false if it is not of the request. */
  readonly take?: (request: Request, result: BatchResult) => boolean
}

/** Results that a file has already. */
export interface Resumed {
  readonly done: number
  readonly failed: number
}

export class ResultFile {
  readonly #path: string
  readonly #handle: FileHandle
  readonly #source: ResultSource
  readonly #unlock: () => Promise<void>
  /** Bytes that the file must have. A device or a pipe has none. */
  #size: number | undefined

  private constructor(
    path: string,
    handle: FileHandle,
    source: ResultSource,
    unlock: () => Promise<void>,
  ) {
    this.#path = path
    this.#handle = handle
    this.#source = source
    this.#unlock = unlock
  }

  /**
   * Opens or creates the file. It must not be one that is read, nor one that another process writes
   * to.
   */
  static async open(path: string, source: ResultSource): Promise<ResultFile> {
    let handle: FileHandle | undefined
    try {
      handle = await open(path, 'a+')
      const to = await handle.stat()
      if (source.inputs.some(from => from?.isFile() && from.ino === to.ino && from.dev === to.dev))
        throw new UsageError(`--out: ${path} is the file that the ${source.things} are read from`)
      const unlock = to.isFile() ? await lockOutput(path) : async () => {}
      return new ResultFile(path, handle, source, unlock)
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
  async resume<Request extends ResultRequest>({
    requests,
    input,
    place,
    take = () => true,
  }: Resuming<Request>): Promise<Resumed> {
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
      if (!request)
        throw this.#otherRequests(line, `${input} has only ${done} ${this.#source.things}`)
      const isSame = request.id === result.id && request.requestHash === result.requestHash
      if (!isSame || !take(request, result))
        throw this.#otherRequests(line, `${place(request)} has another prompt, option or model`)
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
    const message = `${this.#path}: line ${number} is not a result of ${this.#source.option}; the file is not changed`
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
