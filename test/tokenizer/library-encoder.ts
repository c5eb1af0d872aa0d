/**
 * Encoding by @huggingface/tokenizers, to compare with. Its own type files import each other
 * without file extensions, so the types are written down here.
 */

import * as library from '@huggingface/tokenizers'
import type { SentencePieceModel } from '../../lib/tokenizer/sentencepiece.js'
import { sentencePieceBpe } from '../../lib/tokenizer/sentencepiece-bpe.js'
import { sentencePieceFromJson } from '../../lib/tokenizer/sentencepiece-json.js'
import type { Tokenizer } from '../../lib/tokenizer/tokenizer.js'

interface Model {
  encode(texts: string[]): string[]
}

interface Bpe extends Model {
  /** By the JSON form of the pair. The library adds the position, a fraction below 1. */
  readonly bpe_ranks: Map<string, number>
}

interface LibraryTokenizer {
  model: Model
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] }
}

const { BPE, Tokenizer: LibraryTokenizer } = library as unknown as {
  readonly BPE: new (config: object) => Bpe
  readonly Tokenizer: new (tokenizerJson: object, config: object) => LibraryTokenizer
}

/** The library's merges, with equal ranks for equal scores, between user-defined symbols. */
class SentencePieceLibraryBpe extends BPE {
  readonly #units: ReadonlySet<string>
  readonly #pattern: RegExp

  constructor(model: SentencePieceModel) {
    const { ids, merges, units, fuseUnk } = sentencePieceBpe(model)
    super({
      type: 'BPE',
      vocab: Object.fromEntries(ids),
      merges: merges.map(({ left, right }) => [left, right]),
      unk_token: model.pieces[model.unkTokenId]!.text,
      fuse_unk: fuseUnk,
      byte_fallback: model.byteFallback,
    })
    for (const { left, right, rank } of merges) {
      this.bpe_ranks.set(JSON.stringify([left, right]), rank)
    }
    this.#units = new Set(units)
    const longestFirst = [...units].sort((a, b) => b.length - a.length)
    const escaped = longestFirst.map(unit => unit.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&'))
    this.#pattern = units.length > 0 ? new RegExp(`(${escaped.join('|')})`, 'u') : /(?!)/
  }

  override encode(texts: string[]): string[] {
    const parts = texts.flatMap(text => text.split(this.#pattern)).filter(part => part !== '')
    return parts.flatMap(part => (this.#units.has(part) ? [part] : super.encode([part])))
  }
}

/** A function that encodes as the library does, without the tokens around a text. */
export function libraryEncoder(tokenizer: Tokenizer): (text: string) => number[] {
  const json = tokenizer.toJSON()
  const model = sentencePieceFromJson(json, 'tokenizer.json')
  const { normalizer, pre_tokenizer, added_tokens } = json
  const rest = { normalizer, pre_tokenizer, post_processor: null, decoder: null }
  const added = model ? [] : added_tokens.filter(token => !token.special)
  const bpe = model ? { type: 'BPE', vocab: {}, merges: [] } : json.model
  const instance = new LibraryTokenizer({ ...rest, added_tokens: added, model: bpe }, {})
  if (model) instance.model = new SentencePieceLibraryBpe(model)
  return text => {
    const wellFormed = text.replace(/\p{Surrogate}/gu, '\uFFFD')
    return instance.encode(wellFormed, { add_special_tokens: false }).ids
  }
}
