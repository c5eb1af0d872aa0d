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

/** The allowed part of a whole row, in memory that the next call uses again. */
export function allowedPart(row: Float32Array, { mask }: AllowedTokens): KnownLogits {
  if (logits.length < row.length) {
    logits = new Float32Array(row.length)
    ids = new Int32Array(row.length)
  }
  let count = 0
  for (let first = 0; first < row.length; first += 32) {
    // Most words are empty, or nearly full.
    for (let word = mask[first >> 5]!, id = first; word !== 0; word >>>= 1, id++) {
      if ((word & 1) === 0) continue
      logits[count] = row[id]!
      ids[count++] = id
    }
  }
  return { logits: logits.subarray(0, count), ids: ids.subarray(0, count) }
}
