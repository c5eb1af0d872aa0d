/** SentencePiece's BPE as merges of pairs. */

import type { BpeModel } from './bpe.js'
import { byteIds, PIECE_TYPE, type Piece, type SentencePieceModel } from './sentencepiece.js'

export interface ScoredMerge {
  readonly left: string
  readonly right: string
  readonly score: number
}

/**
 * Every pair of symbols whose concatenation is a normal piece, the highest score first. A symbol is
 * a normal piece or any single character: SentencePiece merges characters that are no piece of
 * their own, too.
 */
export function mergesOf(pieces: readonly Piece[]): ScoredMerge[] {
  const normal = pieces.filter(piece => piece.type === PIECE_TYPE.normal)
  const texts = new Set(normal.map(piece => piece.text))
  const merges: ScoredMerge[] = []
  for (const { text, score } of normal) {
    const last = text.length - lengthOfLast(text)
    let at = 0
    for (const character of text) {
      const isFirst = at === 0
      at += character.length
      if (at === text.length) break
      const left = text.slice(0, at)
      const right = text.slice(at)
      if ((isFirst || texts.has(left)) && (at === last || texts.has(right)))
        merges.push({ left, right, score })
    }
  }
  return merges.sort((a, b) => b.score - a.score)
}

function lengthOfLast(text: string): number {
  return /[\uDC00-\uDFFF]$/.test(text) && text.length > 1 ? 2 : 1
}

/**
 * More than a list of merges can say. Merges of equal score have equal rank, so that the leftmost
 * in the text comes first. User-defined symbols are single units that never merge.
 */
export function sentencePieceBpe(model: SentencePieceModel): BpeModel {
  const { pieces, byteFallback, unkTokenId } = model
  const ids = new Map(pieces.map(({ text }, id) => [text, id]))
  const merges = mergesOf(pieces)
  let rank = 0
  return {
    ids,
    merges: merges.map(({ left, right, score }, i) => {
      if (i > 0 && score !== merges[i - 1]!.score) rank++
      return { left, right, rank }
    }),
    units: pieces.filter(({ type }) => type === PIECE_TYPE.userDefined).map(({ text }) => text),
    unkTokenId,
    fuseUnk: true,
    byteIds: byteFallback ? byteIds(ids) : undefined,
    ignoreMerges: false,
  }
}
