/** Protobuf messages of a SentencePiece model, as lists of fields. */

import { changedBytes, integerBytes } from './bytes.js'
import { boundary, changedText } from './hostile.js'
import type { Random } from './random.js'

interface Field {
  readonly number: bigint
  readonly wire: number
  /** The value as it is written; of bytes without their length. */
  readonly value: Buffer
}

/** ModelProto's messages within the message. */
const MESSAGES = [1n, 2n, 3n, 5n]
const NUMBERS = [1n, 2n, 3n, 4n, 5n, 24n, 35n, 44n, 0n, 16n, 1n << 29n, -1n]

export function changedProto(bytes: Buffer, random: Random): Buffer {
  const fields = random.once(10) ? undefined : decode(bytes)
  if (!fields || fields.length === 0) return changedBytes(bytes, random)
  return encode(changedFields(fields, random, true), random)
}

function decode(bytes: Buffer): Field[] | undefined {
  const fields: Field[] = []
  for (let at = 0; at < bytes.length; ) {
    const tag = varint(bytes, at)
    if (!tag) return undefined
    const wire = Number(tag.value & 7n)
    const length = wire === 2 ? varint(bytes, tag.end) : undefined
    const start = length?.end ?? tag.end
    const size =
      wire === 0
        ? (varint(bytes, start)?.end ?? Number.NaN) - start
        : { 1: 8, 2: Number(length?.value), 5: 4 }[wire]
    if (size === undefined || !(start + size <= bytes.length)) return undefined
    fields.push({ number: tag.value >> 3n, wire, value: bytes.subarray(start, start + size) })
    at = start + size
  }
  return fields
}

function varint(bytes: Buffer, at: number): { value: bigint; end: number } | undefined {
  let value = 0n
  for (let i = 0; i < 10 && at + i < bytes.length; i++) {
    value |= BigInt(bytes[at + i]! & 0x7f) << BigInt(7 * i)
    if (bytes[at + i]! < 0x80) return { value, end: at + i + 1 }
  }
  return undefined
}

function varintBytes(value: bigint): Buffer {
  const bytes: number[] = []
  let rest = BigInt.asUintN(64, value)
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128)
  return Buffer.from([...bytes, Number(rest)])
}

/** A length is wrong once in a hundred fields that were changed. */
function encode(fields: readonly Field[], random: Random): Buffer {
  const wrong = random.once(20) ? random.below(fields.length) : -1
  return Buffer.concat(
    fields.flatMap(({ number, wire, value }, i) => {
      const tag = varintBytes((number << 3n) | BigInt(wire))
      if (wire !== 2) return [tag, value]
      const length = i === wrong ? boundary(random) : BigInt(value.length)
      return [tag, varintBytes(length), value]
    }),
  )
}

function changedFields(fields: readonly Field[], random: Random, isModel: boolean): Field[] {
  const changed = [...fields]
  const [a, b] = [random.below(changed.length), random.below(changed.length)]
  const field = changed[a]!
  switch (random.below(9)) {
    case 0:
      changed.splice(a, random.few(8))
      break
    case 1:
      changed.splice(b, 0, field)
      break
    case 2:
      ;[changed[a], changed[b]] = [changed[b]!, field]
      break
    case 3:
      changed[a] = { ...field, number: random.pick(NUMBERS) }
      break
    case 4:
      changed[a] = { ...field, wire: random.below(8) }
      break
    default:
      changed[a] = { ...field, value: changedValue(field, random, isModel) }
  }
  return changed
}

function changedValue({ number, wire, value }: Field, random: Random, isModel: boolean): Buffer {
  if (wire === 0) return varintBytes(random.once(2) ? BigInt(random.below(8)) : boundary(random))
  if (wire !== 2) {
    const floats = [
      '00000000',
      '00000080',
      '0000c07f',
      '0000807f',
      '000080ff',
      '01000000',
      'ffffff7f',
    ]
    return random.once(4)
      ? integerBytes(boundary(random), value.length)
      : Buffer.from(random.pick(floats).repeat(2), 'hex').subarray(0, value.length)
  }
  const inner = isModel && MESSAGES.includes(number) ? decode(value) : undefined
  if (inner && inner.length > 0) return encode(changedFields(inner, random, false), random)
  return random.once(4)
    ? changedBytes(value, random)
    : Buffer.from(changedText(value.toString(), random))
}
