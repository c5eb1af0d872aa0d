/**
 * Random numbers for sampling: Philox4x32-10, a counter-based generator.
 *
 * Number `step` of stream `stream` of a seed is a pure function of the three. So a sequence draws
 * the same numbers whatever else runs beside it. It needs no generator state when it is paused,
 * resumed or recomputed. Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC
 * 2011.
 */

import { randomBytes } from 'node:crypto'

const ROUNDS = 10
const MULTIPLIER_0 = 0xd2511f53
const MULTIPLIER_1 = 0xcd9e8d57
const WEYL_0 = 0x9e3779b9
const WEYL_1 = 0xbb67ae85

export type Block = readonly [number, number, number, number]

/**
 * High 32 bits of the 64-bit product of two unsigned 32-bit numbers; Math.imul gives the low ones.
 */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff
  const aHigh = a >>> 16
  const bLow = b & 0xffff
  const bHigh = b >>> 16
  // Every sum here is below 2^53, hence exact.
  const middle = aHigh * bLow + Math.floor((aLow * bLow) / 0x10000)
  const carry = aLow * bHigh + (middle % 0x10000)
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000)) >>> 0
}

/** Four unsigned 32-bit numbers from a 128-bit counter and a 64-bit key. */
export function philox(counter: Block, key: readonly [number, number]): Block {
  let [c0, c1, c2, c3] = counter
  let [k0, k1] = key
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0)
    const low0 = Math.imul(MULTIPLIER_0, c0) >>> 0
    const high1 = multiplyHigh(MULTIPLIER_1, c2)
    const low1 = Math.imul(MULTIPLIER_1, c2) >>> 0
    c0 = (high1 ^ c1 ^ k0) >>> 0
    c1 = low1
    c2 = (high0 ^ c3 ^ k1) >>> 0
    c3 = low0
    k0 = (k0 + WEYL_0) >>> 0
    k1 = (k1 + WEYL_1) >>> 0
  }
  return [c0, c1, c2, c3]
}

/**
 * Uniform number in [0, 1) with 53 random bits.
 * @param seed any safe integer
 * @param stream which of the sequences that share the seed: its index among `numReturnSequences`
 * @param step which draw of the sequence: the number of tokens generated before it
 */
export function uniform(seed: number, stream: number, step: number): number {
  const key = [seed >>> 0, Math.floor(seed / 0x1_0000_0000) >>> 0] as const
  const [a, b] = philox([step >>> 0, 0, stream >>> 0, 0], key)
  return ((a >>> 5) * 0x400_0000 + (b >>> 6)) / 0x20_0000_0000_0000
}

/** A seed for calls that give none: 53 bits from the operating system. */
export function randomSeed(): number {
  const bytes = randomBytes(8)
  return (bytes.readUInt32LE(0) >>> 11) * 0x1_0000_0000 + bytes.readUInt32LE(4)
}
