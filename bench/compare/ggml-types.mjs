// bf16 values as bytes of the tensor types of GGUF files. Source of the two block formats: ggml's
// reference quantisers.
import { widen } from '../synthetic-random.mjs'

const float = new Float32Array(1)
const bits = new Uint32Array(float.buffer)

/** The bits of the f16 value nearest to x; x must be in the range of f16. */
export function toF16(x) {
  float[0] = x
  const sign = (bits[0] >>> 16) & 0x8000
  const magnitude = bits[0] & 0x7fffffff
  // Below 2^-14 a subnormal: a multiple of 2^-24.
  if (magnitude < 0x38800000) return sign | roundEven(Math.abs(float[0]) * 2 ** 24)
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1)
  return sign | ((rounded - 0x38000000) >>> 13)
}

export function fromF16(value) {
  const exponent = (value >>> 10) & 31
  const fraction = value & 1023
  const magnitude = exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25)
  return value & 0x8000 ? -magnitude : magnitude
}

function roundEven(x) {
  const below = Math.floor(x)
  const rest = x - below
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below
}

const asBytes = array => Buffer.from(array.buffer, array.byteOffset, array.byteLength)

/** 32 values as an f16 scale, largest magnitude / 127, and 32 bytes. */
function toQ8(values) {
  const x = widen(values)
  const blocks = x.length / 32
  const bytes = Buffer.alloc(blocks * 34)
  for (let b = 0; b < blocks; b++) {
    let largest = 0
    for (let i = 0; i < 32; i++) largest = Math.max(largest, Math.abs(x[b * 32 + i]))
    const scale = largest / 127
    const inverse = scale > 0 ? 1 / scale : 0
    const scaleBits = toF16(scale)
    bytes[b * 34] = scaleBits & 255
    bytes[b * 34 + 1] = scaleBits >>> 8
    for (let i = 0; i < 32; i++) bytes[b * 34 + 2 + i] = Math.round(x[b * 32 + i] * inverse)
  }
  return bytes
}

/**
 * 32 values as an f16 scale, the value of largest magnitude / -8, and 16 bytes. A byte holds value
 * i low and value i + 16 high, each + 8.
 */
function toQ4(values) {
  const x = widen(values)
  const blocks = x.length / 32
  const bytes = Buffer.alloc(blocks * 18)
  for (let b = 0; b < blocks; b++) {
    let extreme = 0
    for (let i = 0; i < 32; i++) {
      const value = x[b * 32 + i]
      if (Math.abs(value) > Math.abs(extreme)) extreme = value
    }
    const scale = extreme / -8
    const inverse = scale === 0 ? 0 : 1 / scale
    const scaleBits = toF16(scale)
    bytes[b * 18] = scaleBits & 255
    bytes[b * 18 + 1] = scaleBits >>> 8
    for (let i = 0; i < 16; i++) {
      const low = Math.min(15, Math.floor(x[b * 32 + i] * inverse + 8.5))
      const high = Math.min(15, Math.floor(x[b * 32 + 16 + i] * inverse + 8.5))
      bytes[b * 18 + 2 + i] = low | (high << 4)
    }
  }
  return bytes
}

/** bf16 bits as the bytes of a tensor type. */
export const ENCODERS = {
  F32: values => asBytes(widen(values)),
  BF16: asBytes,
  Q8_0: toQ8,
  Q4_0: toQ4,
}
