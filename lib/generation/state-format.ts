/**
 * The format of state files: the keys and values of a text's tokens.
 *
 *     "moepp-kv"       8 bytes
 *     length           u32, of the header
 *     header           JSON: { "format": 1, "tokens": n, ... }, what the keys depend on
 *     token ids        n times i32
 *     pages            of pageSize tokens each, in order. A page has its layers one behind the
 *                      other. A layer has of each head the keys [S, keyDim], then the values
 *                      [S, valueDim], as f32 or bf16. Rows behind the last token are 0.
 *     checksum         SHA-256 of all bytes before it
 *
 * All integers are little-endian, as are the elements.
 */
import { createHash } from 'node:crypto'
import { decodeUtf8, type InputFile } from '../base/input-file.js'
import { parseJsonObject, show } from '../base/json.js'
import { TimeSlice } from '../base/time-slice.js'
import type { RunnerCache } from '../engine/runner.js'
import { MoeppError } from '../errors.js'

const MAGIC = Buffer.from('moepp-kv', 'latin1')
const PREFIX_BYTES = MAGIC.length + 4
const CHECKSUM_BYTES = 32
const MOST_HEADER_BYTES = 1 << 16
/** Bytes. About a millisecond. */
const HASHED_AT_ONCE = 1 << 20
/** Of everything above. A change of it makes older files unreadable. */
const FORMAT = 1

/** The header's fields but for `tokens`, in order. A file fits if all are equal. */
export type StateFields = Readonly<Record<string, string | number>>

/** The part of a model that a state file must fit. */
export interface StateShape {
  readonly fields: StateFields
  /** Bytes of a page, all layers. */
  readonly pageBytes: number
  readonly pageSize: number
  readonly vocabSize: number
  /** Tokens that a sequence may hold. */
  readonly maxTokens: number
}

export function stateShape(
  fingerprint: StateFields,
  cache: RunnerCache,
  { pageSize, vocabSize, maxTokens }: Pick<StateShape, 'pageSize' | 'vocabSize' | 'maxTokens'>,
): StateShape {
  const { layers, kvHeads, keyDim, valueDim, dtype } = cache
  const sizes = { pageSize, layers, kvHeads, keyDim, valueDim, vocabSize }
  return {
    fields: { format: FORMAT, ...fingerprint, kvCacheDtype: dtype, ...sizes },
    pageBytes: layers * blockElements(cache, pageSize) * bytesOf(dtype),
    pageSize,
    vocabSize,
    maxTokens,
  }
}

/** Elements of one page of one layer. */
function blockElements({ kvHeads, keyDim, valueDim }: RunnerCache, pageSize: number) {
  return kvHeads * (keyDim + valueDim) * pageSize
}

export function bytesOf(dtype: RunnerCache['dtype']): number {
  return dtype === 'f32' ? 4 : 2
}

/** All that is before the pages. */
export function encodeHead({ fields }: StateShape, tokenIds: readonly number[]): Buffer {
  const { format, ...others } = fields
  const header = Buffer.from(JSON.stringify({ format, tokens: tokenIds.length, ...others }))
  const length = Buffer.alloc(4)
  length.writeUInt32LE(header.length)
  const ids = Buffer.alloc(4 * tokenIds.length)
  for (const [i, id] of tokenIds.entries()) ids.writeInt32LE(id, 4 * i)
  return Buffer.concat([MAGIC, length, header, ids])
}

/** SHA-256. Other events run while much is added. */
export class Checksum {
  readonly #hash = createHash('sha256')
  readonly #slice = new TimeSlice()

  async add(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += HASHED_AT_ONCE) {
      this.#hash.update(bytes.subarray(at, at + HASHED_AT_ONCE))
      await this.#slice.pauseIfOver()
    }
  }

  digest(): Buffer {
    return this.#hash.digest()
  }
}

/** Reads a state file from its beginning to its end, and checks each part before the next. */
export class StateReader {
  readonly #file: InputFile
  readonly #checksum = new Checksum()
  #offset = 0

  constructor(file: InputFile) {
    this.#file = file
  }

  /**
   * The token ids, of a file that fits the model and has the size that its header says.
   * @throws MoeppError ERR_BAD_STATE, ERR_BAD_FILE
   */
  async head(shape: StateShape): Promise<number[]> {
    const { size } = this.#file
    if (size < PREFIX_BYTES) throw this.bad(`has ${size} bytes, too few for a state file`)
    const prefix = await this.#next(PREFIX_BYTES, 'the first bytes')
    if (!prefix.subarray(0, MAGIC.length).equals(MAGIC))
      throw this.bad('is no state file: it does not begin with "moepp-kv"')
    const length = prefix.readUInt32LE(MAGIC.length)
    if (length > Math.min(MOST_HEADER_BYTES, size - PREFIX_BYTES))
      throw this.bad(
        `its header has ${length} bytes, at most ${MOST_HEADER_BYTES} and the file's fit`,
      )
    const text = decodeUtf8(await this.#next(length, 'the header'), this.#file.path)
    const tokens = this.#checkHeader(parseJsonObject(text, this.#file.path), shape)
    const pages = Math.ceil(tokens / shape.pageSize)
    const expected = this.#offset + 4 * tokens + pages * shape.pageBytes + CHECKSUM_BYTES
    if (size !== expected) throw this.bad(`has ${size} bytes, expected ${expected}`)
    const ids = await this.#next(4 * tokens, 'the token ids')
    return Array.from({ length: tokens }, (_, i) => {
      const id = ids.readInt32LE(4 * i)
      if (id >= 0 && id < shape.vocabSize) return id
      throw this.bad(`token ${i} is ${id}, expected an id from 0 to ${shape.vocabSize - 1}`)
    })
  }

  /** The next bytes of the pages. */
  pages(bytes: number): Promise<Buffer> {
    return this.#next(bytes, 'a page')
  }

  /** Compares the checksum, once all pages are read. */
  async end(): Promise<void> {
    const expected = this.#checksum.digest()
    const found = await this.#file.read(this.#offset, CHECKSUM_BYTES, 'the checksum')
    if (!expected.equals(found)) throw this.bad('is damaged: its checksum is another')
  }

  bad(message: string): MoeppError {
    return new MoeppError('ERR_BAD_STATE', `${this.#file.path}: ${message}`)
  }

  /** The number of tokens. */
  #checkHeader(header: Readonly<Record<string, unknown>>, { fields, maxTokens }: StateShape) {
    for (const [name, expected] of Object.entries(fields)) {
      const got = Object.hasOwn(header, name) ? header[name] : undefined
      if (got !== expected)
        throw this.bad(`${name} is ${show(got)}, this model's is ${show(expected)}`)
    }
    const unknown = Object.keys(header).find(key => key !== 'tokens' && !Object.hasOwn(fields, key))
    if (unknown !== undefined) throw this.bad(`unknown field ${show(unknown)}`)
    const { tokens } = header
    if (!Number.isSafeInteger(tokens) || (tokens as number) < 1)
      throw this.bad(`tokens is ${show(tokens)}, expected an integer from 1`)
    if ((tokens as number) <= maxTokens) return tokens as number
    throw new MoeppError(
      'ERR_OUT_OF_MEMORY',
      `${this.#file.path}: has ${tokens} tokens, this model holds ${maxTokens}: raise contextLength or kvCacheTokens`,
    )
  }

  async #next(length: number, what: string): Promise<Buffer> {
    const bytes = await this.#file.read(this.#offset, length, what)
    this.#offset += length
    await this.#checksum.add(bytes)
    return bytes
  }
}
