/** Writes SentencePiece models for the tests. */

import { PbfWriter } from 'pbf'
import { PIECE_TYPE, type Piece } from '../../lib/tokenizer/sentencepiece.js'

export interface ModelProto {
  readonly pieces: readonly Partial<Piece>[]
  /** Varint fields by number, over those of a Llama model. */
  readonly trainer?: Readonly<Record<number, number>>
  readonly normalizer?: Readonly<Record<number, number>>
  /** normalizer_spec.precompiled_charsmap */
  readonly charsmap?: Uint8Array
  /** trainer_spec.unk_surface */
  readonly unkSurface?: string
}

export function writeModel(model: ModelProto): Uint8Array {
  const pbf = new PbfWriter()
  for (const { text, score, type } of model.pieces) {
    pbf.writeMessage(
      1,
      (_, pbf) => {
        if (text !== undefined) pbf.writeStringField(1, text)
        if (score !== undefined) pbf.writeFloatField(2, score)
        if (type !== undefined) pbf.writeVarintField(3, type)
      },
      null,
    )
  }
  pbf.writeMessage(
    2,
    (_, pbf) => {
      writeVarints({ 3: 2, 35: 1, ...model.trainer }, pbf)
      if (model.unkSurface !== undefined) pbf.writeStringField(44, model.unkSurface)
    },
    null,
  )
  pbf.writeMessage(
    3,
    (_, pbf) => {
      if (model.charsmap) pbf.writeBytesField(2, model.charsmap)
      writeVarints({ 3: 1, 4: 0, ...model.normalizer }, pbf)
    },
    null,
  )
  return pbf.finish()
}

function writeVarints(fields: Record<number, number>, pbf: PbfWriter): void {
  for (const [field, value] of Object.entries(fields)) pbf.writeVarintField(Number(field), value)
}

/** `<unk>`, `<s>`, `</s>`, the 256 bytes: ids 0 to 258. */
export const basePieces: readonly Piece[] = [
  { text: '<unk>', score: 0, type: PIECE_TYPE.unknown },
  { text: '<s>', score: 0, type: PIECE_TYPE.control },
  { text: '</s>', score: 0, type: PIECE_TYPE.control },
  ...Array.from({ length: 256 }, (_, byte) => ({
    text: `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
    score: 0,
    type: PIECE_TYPE.byte,
  })),
]

export function normal(text: string, score = 0): Piece {
  return { text, score, type: PIECE_TYPE.normal }
}
