/** The prompts' file of `moepp generate --prompts`: JSON Lines. */

import { createHash } from 'node:crypto'
import { createReadStream, type Stats } from 'node:fs'
import { stat } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { isObject, show } from '../base/json.js'
import { MoeppError } from '../errors.js'
import type { Prompt } from '../generation/prompt.js'
import type { GenerateOptions } from '../options/generate.js'
import { type Line, splitLines } from './lines.js'

const MAX_LINE_BYTES = 16 * 2 ** 20

export interface BatchRequest {
  /** Of the file, from 1. */
  readonly line: number
  /** The line's own, or its number. */
  readonly id: string | number
  /** Of everything that decides the result: equal hashes, equal requests. */
  readonly requestHash: string
  /** Absent if there is a fault. Options are not checked yet. */
  readonly work?: { readonly prompt: Prompt; readonly options: GenerateOptions }
  readonly fault?: string
}

export class PromptFile implements Disposable {
  /** As messages name it. */
  readonly name: string
  /** Absent for standard input. */
  readonly #path: string | undefined
  readonly #stream: Readable

  /** `path` is - for `stdin`. */
  constructor(path: string, stdin: () => Readable) {
    const isStdin = path === '-'
    this.name = isStdin ? 'standard input' : path
    this.#path = isStdin ? undefined : path
    this.#stream = isStdin ? stdin() : createReadStream(path)
    // Thrown where it is read. It may fail before or after that.
    this.#stream.on('error', () => {})
  }

  /** Of the file, if it is one. */
  async stat(): Promise<Stats | undefined> {
    if (this.#path === undefined) return undefined
    return stat(this.#path).catch(error => {
      throw cannotRead(this.name, error)
    })
  }

  /** Of a regular file, the prompts in it. It is read once more for that. */
  async count(): Promise<number | undefined> {
    if (this.#path === undefined || !(await this.stat())?.isFile()) return undefined
    let prompts = 0
    for await (const line of splitLines(createReadStream(this.#path), MAX_LINE_BYTES))
      if (!isBlank(line)) prompts++
    return prompts
  }

  /** The requests, once. With a line, `setup` decides its result. */
  async *requests(setup: string): AsyncGenerator<BatchRequest, void> {
    try {
      for await (const line of splitLines(this.#stream, MAX_LINE_BYTES)) {
        if (!isBlank(line)) yield parseRequest(line, setup)
      }
    } catch (error) {
      throw cannotRead(this.name, error)
    }
  }

  /** Ends the reading; a reader that waits gets an error. */
  close(): void {
    this.#stream.destroy()
  }

  [Symbol.dispose](): void {
    this.close()
  }
}

function cannotRead(name: string, cause: unknown): MoeppError {
  return new MoeppError('ERR_NOT_FOUND', `${name}: ${(cause as Error).message}`, { cause })
}

function isBlank({ text }: Line): boolean {
  return text?.trim() === ''
}

function parseRequest({ number, text, fault }: Line, setup: string): BatchRequest {
  const requestHash = createHash('sha256')
    .update(setup)
    .update('\n')
    .update(text?.trim() ?? fault!)
    .digest('hex')
    .slice(0, 32)
  const request = { line: number, id: number, requestHash }
  return { ...request, ...(text === undefined ? { fault: fault! } : parseLine(text)) }
}

type Content = Partial<Pick<BatchRequest, 'id' | 'work' | 'fault'>>

function parseLine(text: string): Content {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return { fault: `expected JSON: ${(error as Error).message}` }
  }
  if (typeof value === 'string') return { work: { prompt: value, options: {} } }
  if (!isObject(value))
    return { fault: `expected a string or an object with a prompt, got ${show(value)}` }
  const { id, prompt, ...options } = value as { id?: unknown; prompt?: unknown }
  if (id !== undefined && typeof id !== 'string' && !Number.isFinite(id))
    return { fault: `id: expected a string or a number, got ${show(id)}` }
  const named = id === undefined ? {} : { id: id as string | number }
  const isIds = Array.isArray(prompt) && prompt.every(each => typeof each === 'number')
  if (typeof prompt !== 'string' && !isIds)
    return { ...named, fault: `prompt: expected a text or token ids, got ${show(prompt)}` }
  return { ...named, work: { prompt: prompt as Prompt, options } }
}
