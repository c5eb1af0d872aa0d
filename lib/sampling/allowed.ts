/** The tokens that a constraint allows, of a row of logits. */
import type { KnownLogits } from './top-logits.js'

export interface AllowedTokens {
  /** A bit for each token, the lowest of the first word for token 0. */
  readonly mask: Int32Array
  /** True if nothing but a token that ends the text is allowed: `minNewTokens` gives way. */
  readonly isComplete: boolean
}

/** For all samplers of a thread, as Candidates. */
let logits = new Float32Array(0)
let ids = new Int32Array(0)

/** Of a row: a part that is smaller is taken out of it, for the draw to be short. */
const SMALL_PART = 1 / 2

/**
 * Calls `body` with the allowed part of a whole row. It may be the row itself, in which the others
 * are -Infinity meanwhile.
 */
export function withAllowed<T>(
  row: Float32Array,
  { mask }: AllowedTokens,
  body: (allowed: KnownLogits) => T,
): T {
  reserve(row.length)
  const allowed = count(mask, row.length)
  if (allowed < SMALL_PART * row.length) return body(take(row, mask, 0))
  const banned = take(row, mask, -1)
  for (const id of banned.ids) row[id] = -Infinity
  try {
    return body({ logits: row })
  } finally {
    for (const [i, id] of banned.ids.entries()) row[id] = banned.logits[i]!
  }
}

function reserve(length: number): void {
  if (logits.length >= length) return
  logits = new Float32Array(length)
  ids = new Int32Array(length)
}

/** The bits of `mask`'s word `at` that stand for tokens; `flip` -1 takes the others. */
function wordOf(mask: Int32Array, at: number, flip: 0 | -1, length: number): number {
  const word = mask[at]! ^ flip
  const tokens = length - 32 * at
  return tokens >= 32 ? word : word & ((1 << tokens) - 1)
}

function count(mask: Int32Array, length: number): number {
  let sum = 0
  for (let at = 0; 32 * at < length; at++) {
    let word = wordOf(mask, at, 0, length)
    word -= (word >>> 1) & 0x55555555
    word = (word & 0x33333333) + ((word >>> 2) & 0x33333333)
    sum += Math.imul((word + (word >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24
  }
  return sum
}

/** The tokens whose bit is set, or with `flip` -1 is not, in memory that is used again. */
function take(row: Float32Array, mask: Int32Array, flip: 0 | -1): Required<KnownLogits> {
  let taken = 0
  for (let at = 0; 32 * at < row.length; at++) {
    let word = wordOf(mask, at, flip, row.length)
    while (word !== 0) {
      const id = 32 * at + 31 - Math.clz32(word & -word)
      word &= word - 1
      logits[taken] = row[id]!
      ids[taken++] = id
    }
  }
  return { logits: logits.subarray(0, taken), ids: ids.subarray(0, taken) }
}
