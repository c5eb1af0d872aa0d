/** Text to token ids, as a tokenizer.json says. */

import { AddedTokens } from './added-tokens.js'
import { Bpe, type BpeModel } from './bpe.js'
import { BYTE_LETTERS, toByteLetters } from './byte-letters.js'
import { type ByteLevelForm, byteLevelForm, isByteLevel } from './byte-level-json.js'
import { stepsOf, type TokenizerJson } from './json-form.js'
import { SHORT } from './merge.js'
import { joined, metaspace, Normalizer, wellFormedChunks } from './normalize.js'
import { byteIds, type SentencePieceModel } from './sentencepiece.js'
import { sentencePieceBpe } from './sentencepiece-bpe.js'
import { STEP, type Steps } from './steps.js'
import { wordEnds } from './words.js'

export class Encoder {
  /** The most UTF-16 units of a text that one token stands for; Infinity if there is no bound. */
  readonly maxTokenLength: number
  readonly #normalizer: Normalizer
  readonly #preTokenize: (chunks: Iterable<string>, section: number) => Iterable<string>
  readonly #byteLevel: ByteLevelForm | undefined
  readonly #added: AddedTokens
  readonly #bpe: Bpe

  /**
   * Special tokens are looked for in texts by the byte-level form alone. None are put around a
   * text.
   */
  constructor(json: TokenizerJson, model: SentencePieceModel | undefined, file: string) {
    this.#normalizer = new Normalizer(stepsOf(json.normalizer, 'normalizers', file))
    this.#byteLevel = isByteLevel(json, file) ? byteLevelForm(json, file) : undefined
    const hasMetaspace = json.pre_tokenizer && !this.#byteLevel
    this.#preTokenize = hasMetaspace ? metaspace(json.pre_tokenizer) : chunks => chunks
    // SentencePiece's model has its own way with the tokens that are not special.
    const listed = this.#byteLevel ? json.added_tokens : ordinary(json)
    this.#added = new AddedTokens(model ? [] : listed, this.#normalizer)
    this.#bpe = new Bpe(
      model ? sentencePieceBpe(model) : this.#byteLevel ? byteLevelBpe(json) : listedBpe(json),
    )
    this.maxTokenLength =
      Math.max(this.#bpe.maxTokenLength, this.#added.maxLength) * this.#normalizer.shrinking
  }

  /**
   * Appends the text's ids. Added tokens of `textIds` are text. `section`: parts of a longer text
   * before this one.
   */
  *encode(text: string, ids: number[], textIds: ReadonlySet<number>, section = 0): Steps {
    if (text === '') return
    if (this.#added.isEmpty) {
      yield* this.#encodePart(this.#normalizer.normalize(wellFormedChunks(text)), section, ids)
      return
    }
    const parts = yield* this.#added.splitRaw(text.toWellFormed(), textIds)
    for (const [before, part] of parts.entries()) {
      yield
      if (typeof part === 'number') ids.push(part)
      else yield* this.#encodeSection(part, section + before, ids, textIds)
    }
  }

  /** A part of the text between two added tokens. `section`: the number of parts before it. */
  *#encodeSection(
    text: string,
    section: number,
    ids: number[],
    textIds: ReadonlySet<number>,
  ): Steps {
    const chunks = this.#normalizer.normalize(wellFormedChunks(text))
    if (!this.#added.hasNormalized) {
      yield* this.#encodePart(chunks, section, ids)
      return
    }
    const normalized = yield* joined(chunks)
    const parts = yield* this.#added.splitNormalized(normalized, textIds)
    for (const [before, part] of parts.entries()) {
      yield
      if (typeof part === 'number') ids.push(part)
      else yield* this.#encodePart(wellFormedChunks(part), section + before, ids)
    }
  }

  #encodePart(chunks: Iterable<string>, section: number, ids: number[]): Steps {
    if (this.#byteLevel) return this.#encodeWords(chunks, this.#byteLevel, ids)
    return this.#bpe.encode(this.#preTokenize(chunks, section), ids)
  }

  /** Words merge each by itself. */
  *#encodeWords(chunks: Iterable<string>, form: ByteLevelForm, ids: number[]): Steps {
    const text = spaced(yield* joined(chunks), form)
    let start = 0
    let pause = STEP
    for (const end of form.rule ? wordEnds(text, form.rule) : [text.length]) {
      if (end === -1) {
        yield
        continue
      }
      if (end >= pause) {
        yield
        pause = end + STEP
      }
      const word = text.slice(start, end)
      start = end
      const letters = word.length <= SHORT ? toByteLetters(word) : ''
      if (letters !== '' && letters.length <= SHORT) this.#bpe.encodeShort(letters, ids)
      else yield* this.#bpe.encode(letterChunks(word), ids)
    }
  }
}

function spaced(text: string, { addPrefixSpace }: ByteLevelForm): string {
  return addPrefixSpace && text !== '' && text[0] !== ' ' ? ` ${text}` : text
}

function* letterChunks(word: string): Generator<string> {
  for (const chunk of wellFormedChunks(word)) yield toByteLetters(chunk)
}

function ordinary(json: TokenizerJson) {
  return json.added_tokens.filter(token => !token.special)
}

/** All bytes are tokens, so that none is unknown. The added ones are no part of the model. */
function byteLevelBpe(json: TokenizerJson): BpeModel {
  const model = listedBpe({ ...json, added_tokens: [] })
  const ids = BYTE_LETTERS.map(letter => model.ids.get(letter))
  return { ...model, byteIds: ids, unkTokenId: undefined }
}

/** The model of a tokenizer.json: merges in the order of their list. */
function listedBpe({ model, added_tokens: added }: TokenizerJson): BpeModel {
  const ids = new Map(Object.entries(model.vocab))
  for (const { content, id, special } of added) if (!special) ids.set(content, id)
  return {
    ids,
    merges: model.merges.map((merge, rank) => {
      const [left, right] = typeof merge === 'string' ? merge.split(' ') : merge
      return { left: left!, right: right!, rank }
    }),
    units: [],
    unkTokenId: typeof model.unk_token === 'string' ? ids.get(model.unk_token) : undefined,
    fuseUnk: model.fuse_unk === true,
    byteIds: model.byte_fallback ? byteIds(ids) : undefined,
    ignoreMerges: model.ignore_merges === true,
  }
}
