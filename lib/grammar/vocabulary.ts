/** The text of each token, as a grammar sees it, in memory that threads share. */
import { TimeSlice } from '../base/time-slice.js'
import type { PieceTable } from '../tokenizer/piece-table.js'
import { SPELLED } from './spelling.js'

/** Token `i` has the bytes from `ends[i - 1]` to `ends[i]`. Special tokens have none. */
export interface SharedVocabulary {
  readonly bytes: Uint8Array
  readonly ends: Uint32Array
  /** 1 for tokens that lose their space where a text begins: see PieceTable. */
  readonly prefixed: Uint8Array
}

/** Of a model with `size` logits. Other events run in between: large ones take 50 ms. */
export async function shareVocabulary(table: PieceTable, size: number): Promise<SharedVocabulary> {
  const slice = new TimeSlice()
  const encoder = new TextEncoder()
  const pieces: Uint8Array[] = []
  const ends = new Uint32Array(new SharedArrayBuffer(4 * size))
  let end = 0
  for (let id = 0; id < size; id++) {
    if (id % 1024 === 0) await slice.pauseIfOver()
    const isText = !table.special.has(id)
    const piece = (isText && table.bytes.get(id)) || encoder.encode(isText ? table.texts[id] : '')
    pieces.push(piece)
    end += piece.length
    ends[id] = end
  }
  const bytes = new Uint8Array(new SharedArrayBuffer(end))
  const prefixed = new Uint8Array(new SharedArrayBuffer(size))
  prefixed.set(table.prefixed.subarray(0, size))
  for (const [id, piece] of pieces.entries()) bytes.set(piece, ends[id]! - piece.length)
  return { bytes, ends, prefixed }
}

export function tokenBytes({ bytes, ends }: SharedVocabulary, id: number): Uint8Array {
  return bytes.subarray(ends[id - 1] ?? 0, ends[id])
}

/** Each token as spelling.ts has it. */
export function spelledVocabulary({ bytes, ends }: SharedVocabulary): string[] {
  let start = 0
  return Array.from(ends, end => {
    let spelled = ''
    for (; start < end; start++) spelled += SPELLED[bytes[start]!]
    return spelled
  })
}
