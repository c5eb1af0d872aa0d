/** Keys and values between float32, as the cache gives them, and the bytes of a state file. */
import type { RunnerCache } from '../engine/runner.js'

/** The exponent of infinity and NaN: of f32, and of bf16, which is its upper half. */
const F32_EXPONENT = 0x7f800000
const BF16_EXPONENT = 0x7f80

type Dtype = RunnerCache['dtype']

/**
 * Fills `bytes`, which begins at a multiple of an element's. In bf16 the values must be ones of it.
 * False if a value is not finite.
 */
export function toBytes(values: Float32Array, dtype: Dtype, bytes: Uint8Array): boolean {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const { buffer, byteOffset } = bytes
  if (dtype === 'f32') {
    new Uint32Array(buffer, byteOffset, bits.length).set(bits)
    return isFinite32(bits)
  }
  const halves = new Uint16Array(buffer, byteOffset, bits.length)
  for (let i = 0; i < bits.length; i++) halves[i] = bits[i]! >>> 16
  return isFinite16(halves)
}

/** Undefined if a value is not finite. The bytes begin at a multiple of an element's. */
export function fromBytes(bytes: Uint8Array, dtype: Dtype): Float32Array | undefined {
  const { buffer, byteOffset, byteLength } = bytes
  if (dtype === 'f32') {
    const values = new Float32Array(buffer, byteOffset, byteLength / 4)
    return isFinite32(new Uint32Array(buffer, byteOffset, byteLength / 4)) ? values : undefined
  }
  const halves = new Uint16Array(buffer, byteOffset, byteLength / 2)
  if (!isFinite16(halves)) return undefined
  const bits = new Uint32Array(halves.length)
  for (let i = 0; i < halves.length; i++) bits[i] = halves[i]! << 16
  return new Float32Array(bits.buffer)
}

/**
 * Sets the rows of a page behind its first `rows` to 0: others' keys and values may be there. Of
 * each head there are keys [S, keyDim] and values [S, valueDim].
 */
export function clearBehind(
  page: Float32Array,
  rows: number,
  pageSize: number,
  { kvHeads, keyDim, valueDim }: RunnerCache,
): void {
  let at = 0
  for (let head = 0; head < kvHeads; head++) {
    for (const dim of [keyDim, valueDim]) {
      page.fill(0, at + rows * dim, at + pageSize * dim)
      at += pageSize * dim
    }
  }
}

function isFinite32(bits: Uint32Array): boolean {
  for (let i = 0; i < bits.length; i++) if ((bits[i]! & F32_EXPONENT) === F32_EXPONENT) return false
  return true
}

function isFinite16(halves: Uint16Array): boolean {
  for (let i = 0; i < halves.length; i++)
    if ((halves[i]! & BF16_EXPONENT) === BF16_EXPONENT) return false
  return true
}
