/**
 * A message between two ranks, before each step. It begins with the tokens of the sender's step.
 * If there is more to say, v8 writes it behind them: a word on the end, and letters.
 */
import { deserialize, serialize } from 'node:v8'
import { show } from '../base/json.js'
import { MoeppError } from '../errors.js'

export interface Mail {
  /** Tokens that the sender computes in this step; NativeProgram.exchangeAndRun reads them. */
  readonly tokens: number
  /** True: this step is the last. Rank 0 alone says so. */
  readonly isLast: boolean
  readonly letters: readonly unknown[]
}

/** Tokens as u32. */
const HEADER_BYTES = 4

export function writeMail({ tokens, isLast, letters }: Mail): Uint8Array {
  const body = isLast || letters.length > 0 ? serialize([isLast, ...letters]) : new Uint8Array()
  const mail = Buffer.alloc(HEADER_BYTES + body.byteLength)
  mail.writeUInt32LE(tokens, 0)
  mail.set(body, HEADER_BYTES)
  return mail
}

/** @throws MoeppError ERR_PARALLEL if a rank has sent something else */
export function readMail(bytes: Uint8Array, from: number): Mail {
  const mail = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  try {
    const body: unknown =
      mail.length > HEADER_BYTES ? deserialize(mail.subarray(HEADER_BYTES)) : [false]
    if (!Array.isArray(body) || typeof body[0] !== 'boolean')
      throw new TypeError(`expected the end and letters, got ${show(body)}`)
    const [isLast, ...letters] = body as [boolean, ...unknown[]]
    return { tokens: mail.readUInt32LE(0), isLast, letters }
  } catch (cause) {
    const words = `the message of rank ${from} (${mail.length} bytes) cannot be read`
    throw new MoeppError('ERR_PARALLEL', words, { cause })
  }
}
