/**
 * Reads the fields of a protobuf message, and nothing past its end. No groups, which
 * sentencepiece's schema has not. Source: protobuf.dev/programming-guides/encoding.
 */

/** The forms of a field's value: the low three bits of its tag. */
export const WIRE_TYPE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const

export interface Field {
  readonly number: number
  readonly wireType: number
  /** Of its tag, in bytes from the message's start. */
  readonly start: number
  /** A varint as a signed integer of 64 bits, a float, a double, or the bytes, which are a view. */
  readonly value: number | Uint8Array
}

/**
 * @throws RangeError for bytes that are no message, with the field's start; the fields before are
 * given first.
 */
export function* readFields(bytes: Uint8Array): Generator<Field> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let start = 0; start < bytes.length; ) {
    const malformed = (why: string) => new RangeError(`is malformed at byte ${start}: ${why}`)
    const varint = (at: number) => {
      const found = readVarint(bytes, at)
      if (!found) throw malformed('a varint without end')
      return found
    }
    const tag = varint(start)
    const number = Math.floor(tag.value / 8)
    const wireType = tag.value & 7
    if (number <= 0) throw malformed(`field number ${number}`)
    const until = (end: number) => {
      if (end > bytes.length)
        throw new RangeError(
          `field ${number} at byte ${start} ends at ${end}, expected <= ${bytes.length}`,
        )
      return end
    }
    let at = tag.end
    let end: number
    let value: number | Uint8Array
    if (wireType === WIRE_TYPE.varint) {
      ;({ value, end } = varint(at))
    } else if (wireType === WIRE_TYPE.fixed64) {
      end = until(at + 8)
      value = view.getFloat64(at, true)
    } else if (wireType === WIRE_TYPE.fixed32) {
      end = until(at + 4)
      value = view.getFloat32(at, true)
    } else if (wireType === WIRE_TYPE.bytes) {
      const length = varint(at)
      if (length.value < 0) throw malformed(`a length of ${length.value}`)
      at = length.end
      end = until(at + length.value)
      value = bytes.subarray(at, end)
    } else {
      throw malformed(`wire type ${wireType}`)
    }
    yield { number, wireType, start, value }
    start = end
  }
}

/**
 * Seven bits a byte, least first, at most ten bytes; undefined when the bytes end before it does.
 */
function readVarint(bytes: Uint8Array, at: number): { value: number; end: number } | undefined {
  let value = 0
  for (let i = 0; i < 7; i++) {
    const byte = bytes[at + i]
    if (byte === undefined) return undefined
    value += (byte & 0x7f) * 2 ** (7 * i)
    if (byte < 0x80) return { value, end: at + i + 1 }
  }
  // More than 49 bits: a negative number has all ten bytes.
  let wide = BigInt(value)
  for (let i = 7; i < 10; i++) {
    const byte = bytes[at + i]
    if (byte === undefined) return undefined
    wide |= BigInt(byte & 0x7f) << BigInt(7 * i)
    if (byte < 0x80) return { value: Number(BigInt.asIntN(64, wide)), end: at + i + 1 }
  }
  return undefined
}
