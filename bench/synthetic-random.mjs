// Random numbers and bf16 values that are the same everywhere.

/** Uniform numbers in [0, 1) from a seed: xorshift32. */
export function randomFrom(seed) {
  let state = Math.imul(seed + 1, 2654435761) >>> 0 || 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    return state / 2 ** 32
  }
}

/** Standard normal numbers from uniform ones: Box and Muller. */
export function normalFrom(random) {
  let next
  return () => {
    if (next !== undefined) {
      const value = next
      next = undefined
      return value
    }
    const radius = Math.sqrt(-2 * Math.log(1 - random()))
    const angle = 2 * Math.PI * random()
    next = radius * Math.sin(angle)
    return radius * Math.cos(angle)
  }
}

const float = new Float32Array(1)
const bits = new Uint32Array(float.buffer)

/** The bf16 value nearest to x, as its 16 bits. */
export function toBf16(x) {
  float[0] = x
  return (bits[0] + 0x7fff + ((bits[0] >>> 16) & 1)) >>> 16
}

export function fromBf16(value) {
  bits[0] = value << 16
  return float[0]
}

/** bf16 bits to f32 values. */
export function widen(values) {
  const wide = new Uint32Array(values.length)
  for (let i = 0; i < values.length; i++) wide[i] = values[i] << 16
  return new Float32Array(wide.buffer)
}

/**
 * A prime: rows of any length begin at another place of the block each, so that no two rows of the
 * model are alike.
 */
const BLOCK_VALUES = 8388593

/** Normal bf16 values with standard deviation `std`: what all large matrices are cut from. */
export function normalBlock(seed, std) {
  const random = randomFrom(seed)
  const values = new Uint16Array(BLOCK_VALUES)
  // The sum of four uniform numbers is close enough to normal, and quick.
  const scale = std * Math.sqrt(3)
  for (let i = 0; i < values.length; i++) {
    values[i] = toBf16((random() + random() + random() + random() - 2) * scale)
  }
  return values
}

/** The same values times `factor`, a power of two. */
export function scaledBlock(block, factor) {
  const shift = Math.log2(factor) * 128
  return block.map(value => ((value & 0x7f80) + shift > 0 ? value + shift : value & 0x8000))
}
