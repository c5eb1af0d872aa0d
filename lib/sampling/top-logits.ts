/**
 * The largest logits of a row, in place of the row: what most options need to choose the same
 * token. The device selects them (native/ops/top_logits.h), so that a vocabulary's logits need not
 * leave it.
 */
import { checkLargest, largestIds, type TokenLogprobs } from './logprobs.js'

export interface TopLogits {
  /** Tokens of the whole row. */
  readonly vocabSize: number
  /** The largest first; NaN counts as larger than every number. */
  readonly logits: Float32Array
  /** Their tokens; of equal logits the lower id first. */
  readonly ids: Int32Array
  /**
   * log(sum(exp(logits))) of the whole row, if it was asked for. Its error is at most 2^-20 + 2^-24
   * times the mean distance of a token's logit from the largest.
   */
  readonly logSumExp?: number
}

/** The largest with their logSumExp, and the whole row: of a place whose next token is known. */
export interface ScoredLogits extends TopLogits {
  /** [V] */
  readonly row: Float32Array
}

/**
 * The known part of a row of logits: `logits[i]` is that of token `ids[i]`. The ids ascend; without
 * them i is the token.
 */
export interface KnownLogits {
  readonly logits: Float32Array
  readonly ids?: Int32Array
}

/** The `count` largest. */
export function largest(top: TopLogits, count: number): KnownLogits {
  // Ids and places in one number, so that a typed array can sort them.
  const keys = Float64Array.from(
    { length: count },
    (_, place) => top.ids[place]! * top.ids.length + place,
  ).sort()
  const logits = new Float32Array(count)
  const ids = new Int32Array(count)
  keys.forEach((key, i) => {
    const place = key % top.ids.length
    logits[i] = top.logits[place]!
    ids[i] = top.ids[place]!
  })
  return { logits, ids }
}

/** Throws what `argmax` would throw for the whole row. */
export function checkTop({ logits, ids, vocabSize }: TopLogits): void {
  checkLargest(logits[0]!, ids[0]!, vocabSize)
}

/**
 * tokenLogprobs from the largest logits of a row and its logSumExp. The token and the alternatives
 * must be among them.
 */
export function topLogprobs(top: TopLogits, tokenId: number, alternatives: number): TokenLogprobs {
  const normalizer = top.logSumExp!
  const at = (place: number) => ({
    tokenId: top.ids[place]!,
    logprob: top.logits[place]! - normalizer,
  })
  const count = Math.min(alternatives, top.ids.length)
  return {
    ...at(top.ids.indexOf(tokenId)),
    top: Array.from({ length: count }, (_, place) => at(place)),
  }
}

/** tokenLogprobs from a row, its largest logits and its logSumExp, without a pass over the row. */
export function scoredLogprobs(
  scored: ScoredLogits,
  tokenId: number,
  alternatives: number,
): TokenLogprobs {
  checkTop(scored)
  const { row, ids } = scored
  const normalizer = scored.logSumExp!
  const of = (id: number) => ({ tokenId: id, logprob: row[id]! - normalizer })
  const isKnown = alternatives <= ids.length
  const top = isKnown ? ids.subarray(0, alternatives) : largestIds(row, alternatives)
  return { ...of(tokenId), top: Array.from(top, of) }
}

/** The index of a token in `ids`, which ascend; -1 if it is not there. */
export function placeOf(ids: Int32Array, id: number): number {
  let from = 0
  let to = ids.length
  while (from < to) {
    const middle = (from + to) >>> 1
    if (ids[middle]! < id) from = middle + 1
    else to = middle
  }
  return ids[from] === id ? from : -1
}
