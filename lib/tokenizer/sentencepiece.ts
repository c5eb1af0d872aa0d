/**
 * Reads a SentencePiece `tokenizer.model` (a protobuf ModelProto) and accepts the kind that moepp
 * encodes exactly: BPE with the identity normaliser, as LlamaTokenizer has it. Any other kind is an
 * error that names the setting.
 *
 * Source of the format and its defaults: google/sentencepiece, src/sentencepiece_model.proto.
 */

import { show } from '../base/json.js'
import { MoeppError } from '../errors.js'
import { readFields, WIRE_TYPE } from './protobuf.js'

/** ModelProto.SentencePiece.Type */
export const PIECE_TYPE = {
  normal: 1,
  unknown: 2,
  control: 3,
  userDefined: 4,
  unused: 5,
  byte: 6,
} as const

export interface Piece {
  readonly text: string
  /** Merges with a higher score come first. */
  readonly score: number
  /** A value of PIECE_TYPE. */
  readonly type: number
}

export interface SentencePieceModel {
  /** By token id. */
  readonly pieces: readonly Piece[]
  readonly unkTokenId: number
  /** The unknown piece decodes to it. */
  readonly unkSurface: string
  /** One U+2581 is put in front of a text that is not empty. */
  readonly addDummyPrefix: boolean
  /** A character that is no piece becomes its UTF-8 bytes; without it, the unknown piece. */
  readonly byteFallback: boolean
}

export const MAX_PIECES = 1 << 20
/**
 * In UTF-16 code units. SentencePiece's trainer stops at 16 characters; the bound keeps loading
 * linear.
 */
export const MAX_PIECE_LENGTH = 512
const BYTE_PIECE = /^<0x([0-9A-F]{2})>$/
const MODEL_TYPES = ['unknown', 'unigram', 'bpe', 'word', 'char']

/** The byte that a piece like `<0x0A>` stands for. */
export function byteOfPiece(text: string): number | undefined {
  const match = BYTE_PIECE.exec(text)
  return match ? Number.parseInt(match[1]!, 16) : undefined
}

/** The ids of the pieces that stand for bytes, by byte. */
export function byteIds(ids: ReadonlyMap<string, number>): (number | undefined)[] {
  return Array.from({ length: 256 }, (_, byte) =>
    ids.get(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`),
  )
}

/** `file` is the name that errors carry. */
export function parseSentencePiece(bytes: Uint8Array, file: string): SentencePieceModel {
  const model = readMessage(bytes, `${file}: ModelProto`, {
    1: BYTES,
    2: BYTES,
    3: BYTES,
    5: BYTES,
  })
  const trainer = readMessage(model.bytes(2), `${file}: trainer_spec`, {
    3: VARINT,
    24: VARINT,
    35: VARINT,
    44: BYTES,
  })
  const normalizerFields = { 2: BYTES, 3: VARINT, 4: VARINT, 5: VARINT }
  const normalizer = readMessage(model.bytes(3), `${file}: normalizer_spec`, normalizerFields)
  const denormalizer = readMessage(model.bytes(5), `${file}: denormalizer_spec`, normalizerFields)

  const kind = trainer.number(3, 1)
  refuseUnless(kind === 2, file, 'model_type', MODEL_TYPES[kind] ?? String(kind), 'bpe')
  const charsmap = normalizer.bytes(2).length || denormalizer.bytes(2).length
  refuseUnless(
    charsmap === 0,
    file,
    'precompiled_charsmap',
    `${charsmap} bytes`,
    'none (the identity)',
  )
  refuseUnless(!normalizer.flag(4, true), file, 'remove_extra_whitespaces', 'true', 'false')
  refuseUnless(normalizer.flag(5, true), file, 'escape_whitespaces', 'false', 'true')
  refuseUnless(!trainer.flag(24, false), file, 'treat_whitespace_as_suffix', 'true', 'false')

  const records = model.all(1)
  if (records.length > MAX_PIECES)
    throw bad(file, `has ${records.length} pieces, expected <= ${MAX_PIECES}`)
  const pieces = records.map((record, id) => parsePiece(record, `${file}: piece ${id}`))
  const byteFallback = trainer.flag(35, false)
  const unkTokenId = checkPieces(pieces, byteFallback, file)
  return {
    pieces,
    unkTokenId,
    unkSurface: trainer.text(44, ' \u2047 '),
    addDummyPrefix: normalizer.flag(3, true),
    byteFallback,
  }
}

/**
 * Checks what encoding and decoding rely on, and returns the unknown piece's id. Errors begin with
 * `where`.
 */
export function checkPieces(
  pieces: readonly Piece[],
  byteFallback: boolean,
  where: string,
): number {
  const seen = new Set<string>()
  let unkTokenId = -1
  let byteCount = 0
  for (const [id, { text, score, type }] of pieces.entries()) {
    const fail = (problem: string) => bad(where, `piece ${id} (${show(text)}) ${problem}`)
    if (text === '') throw bad(where, `piece ${id} is empty, expected text`)
    if (text.length > MAX_PIECE_LENGTH) {
      throw bad(
        where,
        `piece ${id} is ${text.length} long, expected <= ${MAX_PIECE_LENGTH} UTF-16 units`,
      )
    }
    if (seen.has(text)) throw fail('occurs twice')
    seen.add(text)
    if (!Number.isFinite(score)) throw fail(`has score ${show(score)}, expected a finite number`)
    if (!Number.isInteger(type) || type < 1 || type > 6)
      throw fail(`has type ${show(type)}, expected 1 to 6`)
    // SentencePiece splits an unused piece again as it happened to be merged; that order is not
    // reproduced here.
    if (type === PIECE_TYPE.unused)
      throw fail('is of type unused, which cannot be reproduced exactly')
    if (type === PIECE_TYPE.unknown) {
      if (unkTokenId !== -1) throw fail(`is a second unknown piece; the first is ${unkTokenId}`)
      unkTokenId = id
    }
    if (type === PIECE_TYPE.byte) {
      if (byteOfPiece(text) === undefined)
        throw fail('is of type byte, expected a name like <0x0A>')
      byteCount++
    }
  }
  if (unkTokenId === -1) throw bad(where, 'has no unknown piece, expected one')
  const expectedBytes = byteFallback ? 256 : 0
  if (byteCount !== expectedBytes) {
    const setting = `byte_fallback ${byteFallback}`
    throw bad(where, `has ${byteCount} byte pieces, expected ${expectedBytes} with ${setting}`)
  }
  return unkTokenId
}

function parsePiece(bytes: Uint8Array, where: string): Piece {
  const fields = readMessage(bytes, where, { 1: BYTES, 2: FLOAT, 3: VARINT })
  return {
    text: fields.text(1, ''),
    score: fields.number(2, 0),
    type: fields.number(3, PIECE_TYPE.normal),
  }
}

/** Wire types. */
const { varint: VARINT, bytes: BYTES, fixed32: FLOAT } = WIRE_TYPE

/**
 * The fields of one message; of a field that is given several times the last counts, as protobuf
 * has it.
 */
class Fields {
  readonly #where: string
  readonly #values: ReadonlyMap<number, (number | Uint8Array)[]>

  constructor(where: string, values: ReadonlyMap<number, (number | Uint8Array)[]>) {
    this.#where = where
    this.#values = values
  }

  all(field: number): Uint8Array[] {
    return (this.#values.get(field) ?? []) as Uint8Array[]
  }

  bytes(field: number): Uint8Array {
    return this.all(field).at(-1) ?? new Uint8Array()
  }

  number(field: number, absent: number): number {
    return (this.#values.get(field)?.at(-1) as number | undefined) ?? absent
  }

  flag(field: number, absent: boolean): boolean {
    return this.number(field, Number(absent)) !== 0
  }

  text(field: number, absent: string): string {
    const bytes = this.all(field).at(-1)
    if (bytes === undefined) return absent
    try {
      return UTF8.decode(bytes)
    } catch (cause) {
      throw bad(this.#where, `field ${field} is not valid UTF-8`, cause)
    }
  }
}

// A piece may consist of a byte order mark.
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Reads a message whose known fields have these wire types. Other fields are passed over. */
function readMessage(
  bytes: Uint8Array,
  where: string,
  wireTypes: Readonly<Record<number, number>>,
): Fields {
  const values = new Map<number, (number | Uint8Array)[]>()
  try {
    for (const { number, wireType, start, value } of readFields(bytes)) {
      const expected = wireTypes[number]
      if (expected === undefined) continue
      if (wireType !== expected)
        throw new RangeError(
          `field ${number} at byte ${start} has wire type ${wireType}, expected ${expected}`,
        )
      const list = values.get(number)
      if (list) list.push(value)
      else values.set(number, [value])
    }
  } catch (cause) {
    throw bad(where, (cause as Error).message, cause)
  }
  return new Fields(where, values)
}

function refuseUnless(
  accepted: boolean,
  file: string,
  setting: string,
  got: string,
  expected: string,
): void {
  if (!accepted) {
    throw bad(
      file,
      `${setting} is ${got}, expected ${expected}: this kind cannot be reproduced exactly`,
    )
  }
}

function bad(where: string, problem: string, cause?: unknown): MoeppError {
  return new MoeppError('ERR_BAD_TOKENIZER', `${where}: ${problem}`, { cause })
}
