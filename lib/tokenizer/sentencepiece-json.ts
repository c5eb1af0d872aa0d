/**
 * A SentencePiece model as a Hugging Face tokenizer.json, and back. The form is that of a Llama
 * tokenizer, which other libraries read. It has no place for scores, and ranks in a list of merges
 * cannot stand for them. Pieces of equal score merge leftmost first in any order of the list: `aba`
 * is `ab a`, `bab` is `ba b`. So `model` gets one more key, `sentencepiece`, which
 * other readers pass over.
 */

import { isObject } from '../base/json.js'
import { type AddedTokenJson, badTokenizer, stepsOf, type TokenizerJson } from './json-form.js'
import { checkPieces, PIECE_TYPE, type Piece, type SentencePieceModel } from './sentencepiece.js'
import { mergesOf } from './sentencepiece-bpe.js'

export interface SentencePieceJson {
  /** By token id. */
  readonly scores: readonly number[]
  readonly types: readonly number[]
  readonly unk_surface: string
}

export interface ConvertOptions {
  /** Special tokens that encoding puts around a text. */
  readonly bos: AddedTokenJson | undefined
  readonly eos: AddedTokenJson | undefined
  /** Special tokens with ids beyond the pieces. */
  readonly added: readonly AddedTokenJson[]
}

export function sentencePieceToJson(
  model: SentencePieceModel,
  options: ConvertOptions,
): TokenizerJson {
  const { pieces, addDummyPrefix, byteFallback, unkTokenId, unkSurface } = model
  const vocab = Object.fromEntries(pieces.map(({ text }, id) => [text, id]))
  const isListed = (text: string) => Object.hasOwn(vocab, text)
  const sentencepiece: SentencePieceJson = {
    scores: pieces.map(piece => piece.score),
    types: pieces.map(piece => piece.type),
    unk_surface: unkSurface,
  }
  const prepend = { type: 'Prepend', prepend: '\u2581' }
  const spaceToMark = { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' }
  const markToSpace = { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' }
  const strip = { type: 'Strip', content: ' ', start: 1, stop: 0 }
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [...pieces.flatMap(addedToken), ...options.added],
    normalizer: {
      type: 'Sequence',
      normalizers: addDummyPrefix ? [prepend, spaceToMark] : [spaceToMark],
    },
    pre_tokenizer: null,
    post_processor: template(options),
    decoder: {
      type: 'Sequence',
      decoders: [
        markToSpace,
        ...(byteFallback ? [{ type: 'ByteFallback' }] : []),
        { type: 'Fuse' },
        ...(addDummyPrefix ? [strip] : []),
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: pieces[unkTokenId]!.text,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: byteFallback,
      vocab,
      // Other readers refuse a merge of parts outside the vocabulary.
      merges: mergesOf(pieces)
        .filter(merge => isListed(merge.left) && isListed(merge.right))
        .map(merge => [merge.left, merge.right]),
      sentencepiece,
    },
  }
}

/**
 * The model that a tokenizer.json with the key `sentencepiece` was made from; undefined without the
 * key.
 */
export function sentencePieceFromJson(
  json: TokenizerJson,
  file: string,
): SentencePieceModel | undefined {
  const extra = json.model.sentencepiece
  if (extra === undefined) return undefined
  if (!isObject(extra) || !Array.isArray(extra.scores) || !Array.isArray(extra.types)) {
    throw badTokenizer(file, 'model.sentencepiece', '{ scores: [], types: [], unk_surface }', extra)
  }
  if (typeof extra.unk_surface !== 'string') {
    throw badTokenizer(file, 'model.sentencepiece.unk_surface', 'a string', extra.unk_surface)
  }
  const { scores, types } = extra
  const entries = Object.entries(json.model.vocab)
  if (scores.length !== entries.length || types.length !== entries.length) {
    const got = `${scores.length} and ${types.length}`
    throw badTokenizer(
      file,
      'model.sentencepiece.scores and .types',
      `${entries.length} entries each`,
      got,
    )
  }
  const pieces: (Piece | undefined)[] = new Array(entries.length).fill(undefined)
  for (const [text, id] of entries) pieces[id] = { text, score: scores[id], type: types[id] }
  const missing = pieces.indexOf(undefined)
  if (missing !== -1) throw badTokenizer(file, `model.vocab's id ${missing}`, 'a piece', undefined)
  const byteFallback = json.model.byte_fallback === true
  const listed = pieces as Piece[]
  return {
    pieces: listed,
    unkTokenId: checkPieces(listed, byteFallback, `${file}: model.sentencepiece`),
    unkSurface: extra.unk_surface,
    addDummyPrefix: stepsOf(json.normalizer, 'normalizers', file).some(
      step => step.type === 'Prepend',
    ),
    byteFallback,
  }
}

function addedToken({ text, type }: Piece, id: number): AddedTokenJson[] {
  const special = type === PIECE_TYPE.control || type === PIECE_TYPE.unknown
  if (!special && type !== PIECE_TYPE.userDefined) return []
  return [
    {
      id,
      content: text,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special,
    },
  ]
}

function template({ bos, eos }: ConvertOptions): TokenizerJson['post_processor'] {
  const around = [bos, eos].filter(token => token !== undefined)
  if (around.length === 0) return null
  const sequence = (id: string, typeId: number) => [
    ...(bos ? [{ SpecialToken: { id: bos.content, type_id: typeId } }] : []),
    { Sequence: { id, type_id: typeId } },
    ...(eos ? [{ SpecialToken: { id: eos.content, type_id: typeId } }] : []),
  ]
  return {
    type: 'TemplateProcessing',
    single: sequence('A', 0),
    pair: [...sequence('A', 0), ...sequence('B', 1)],
    special_tokens: Object.fromEntries(
      around.map(({ id, content }) => [content, { id: content, ids: [id], tokens: [content] }]),
    ),
  }
}
