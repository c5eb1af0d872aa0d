/** Damage that knows no format, but where it shall happen. */

import { boundary } from './hostile.js'
import type { Random } from './random.js'

/** Of a file, first byte and one past the last. */
export type Range = readonly [start: number, end: number]

/** Changes bytes, mostly within `ranges`: where the format's own fields lie. */
export function changedBytes(bytes: Buffer, random: Random, ranges: readonly Range[] = []): Buffer {
  const place = () => {
    const [start, end] =
      ranges.length === 0 || random.once(8) ? [0, bytes.length] : random.pick(ranges)
    return Math.min(start + random.below(Math.max(1, end - start)), bytes.length)
  }
  const [a, b] = [place(), place()]
  const piece = bytes.subarray(a, a + 1 + random.below(64))
  switch (random.below(7)) {
    case 0:
      return Buffer.from(bytes.subarray(0, a))
    case 1:
      return Buffer.concat([bytes.subarray(0, b), piece, bytes.subarray(b)])
    case 2:
      return Buffer.concat([bytes.subarray(0, a), bytes.subarray(a + 1 + random.below(32))])
    case 3:
      return overwritten(bytes, piece, b)
    case 4:
      return overwritten(bytes, integerBytes(boundary(random), random.pick([1, 2, 4, 8])), a)
    case 5:
      return overwritten(bytes, Buffer.alloc(1 + random.below(8), random.pick([0, 0xff])), a)
    default: {
      const copy = Buffer.from(bytes)
      for (let flips = random.few(5); flips > 0 && copy.length > 0; flips--) {
        const at = Math.min(place(), copy.length - 1)
        copy[at] = copy[at]! ^ (1 << random.below(8))
      }
      return copy
    }
  }
}

/** As many bytes, some of them other numbers: NaN, Inf, 0, denormal, anything. */
export function changedValues(bytes: Buffer, random: Random): Buffer {
  const values = ['ff', '00', '7f', '80', '0000807f', '0000c0ff', '807f', 'ff7f', '01000000', 'a5']
  const fill = Buffer.from(random.pick(values), 'hex')
  const length = random.pick([4, 64, 4096])
  return overwritten(bytes, Buffer.alloc(length, fill), 4 * random.below(bytes.length / 4 + 1))
}

/** `bytes` with `piece` at `at`; what would lie behind the end is left out. */
export function overwritten(bytes: Buffer, piece: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes)
  piece.copy(copy, at)
  return copy
}

/** The low bytes of an integer, least first. */
export function integerBytes(value: bigint, width: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt.asUintN(64, value))
  return bytes.subarray(0, width)
}
