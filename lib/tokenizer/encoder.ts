/** Text to token ids, as a tokenizer.json says. */

import { AddedTokens } from './added-tokens.js'
import { Bpe, type BpeModel } from './bpe.js'
import { joined, metaspace, Normalizer, wellFormedChunks } from './normalize.js'
import { byteIds, type SentencePieceModel } from './sentencepiece.js'
import { sentencePieceBpe } from './sentencepiece-bpe.js'
import type { Steps } from './steps.js'
import { stepsOf, type TokenizerJson } from './tokenizer-json.js'

export class Encoder {
  /** The most UTF-16 units of a text that one token stands for; Infinity if there is no bound. */
  readonly maxTokenLength: number
  readonly #normalizer: Normalizer
  readonly #preTokenize: (chunks: Iterable<string>, section: number) => Iterable<string>
  readonly #added: AddedTokens
  readonly #bpe: Bpe

  /** Special tokens are not looked for in texts, and none are put around them. */
  constructor(json: TokenizerJson, model: SentencePieceModel | undefined, file: string) {
    this.#normalizer = new Normalizer(stepsOf(json.normalizer, 'normalizers', file))
    this.#preTokenize = json.pre_tokenizer ? metaspace(json.pre_tokenizer) : chunks => chunks
    // SentencePiece's model has its own way with the tokens that are not special.
    const added = model ? [] : json.added_tokens.filter(token => !token.special)
    this.#added = new AddedTokens(added, this.#normalizer)
    this.#bpe = new Bpe(model ? sentencePieceBpe(model) : listedBpe(json))
    this.maxTokenLength = this.#normalizer.keepsLength
      ? Math.max(this.#bpe.maxTokenLength, this.#added.maxLength)
      : Number.POSITIVE_INFINITY
  }

  /** Appends the text's ids. */
  *encode(text: string, ids: number[]): Steps {
    if (text === '') return
    if (this.#added.isEmpty) {
      yield* this.#encodePart(this.#normalizer.normalize(wellFormedChunks(text)), 0, ids)
      return
    }
    const parts = yield* this.#added.splitRaw(text.toWellFormed())
    for (const [section, part] of parts.entries()) {
      yield
      const id = this.#added.idOf(part)
      if (id !== undefined) ids.push(id)
      else yield* this.#encodeSection(part, section, ids)
    }
  }

  /** A part of the text between two added tokens. `section`: the number of parts before it. */
  *#encodeSection(text: string, section: number, ids: number[]): Steps {
    const chunks = this.#normalizer.normalize(wellFormedChunks(text))
    if (!this.#added.hasNormalized) {
      yield* this.#encodePart(chunks, section, ids)
      return
    }
    const normalized = yield* joined(chunks)
    for (const part of yield* this.#added.splitNormalized(normalized)) {
      yield
      const id = this.#added.idOf(part)
      if (id !== undefined) ids.push(id)
      else yield* this.#encodePart(wellFormedChunks(part), section, ids)
    }
  }

  #encodePart(chunks: Iterable<string>, section: number, ids: number[]): Steps {
    return this.#bpe.encode(this.#preTokenize(chunks, section), ids)
  }
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
