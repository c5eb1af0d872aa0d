/**
 * A message between two ranks, before each step: the tokens of the sender's step, a word on the
 * end, and letters, which v8 writes.
 */
import { deserialize, serialize } from 'node:v8'
import { show } from '../base/json.js'
import { MoeppError } from '../errors.js'

export interface Mail {
  /** Tokens that the sender computes in this step. */
  readonly tokens: number
  /** True: this step is the last. Rank 0 alone says so. */
  readonly isLast: boolean
  readonly letters: readonly unknown[]
}

/** Tokens as u32, then isLast as u32; letters behind them, if there are any. */
const HEADER_BYTES = 8

export function writeMail({ tokens, isLast, letters }: Mail): Uint8Array {
  const body = letters.length > 0 ? serialize(letters) : new Uint8Array()
  const mail = Buffer.alloc(HEADER_BYTES + body.byteLength)
  mail.writeUInt32LE(tokens, 0)
  mail.writeUInt32LE(Number(isLast), 4)
  mail.set(body, HEADER_BYTES)
  return mail
}

/** @throws MoeppError ERR_PARALLEL if a rank has sent something else */
export function readMail(bytes: Uint8Array, from: number): Mail {
  const mail = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  try {
    const letters: unknown = mail.length > HEADER_BYTES ? deserialize(mail.subarray(8)) : []
    if (!Array.isArray(letters)) throw new TypeError(`expected letters, got ${show(letters)}`)
    return { tokens: mail.readUInt32LE(0), isLast: mail.readUInt32LE(4) !== 0, letters }
  } catch (cause) {
    const words = `the message of rank ${from} (${mail.length} bytes) cannot be read`
    throw new MoeppError('ERR_PARALLEL', words, { cause })
  }
}
