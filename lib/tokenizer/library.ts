/**
 * The parts of @huggingface/tokenizers that moepp runs: normalizers, pre-tokenizers, defaults of
 * added tokens. Its type files import each other without file extensions, which TypeScript does
 * not resolve under nodenext. So the types are written down here.
 */

import * as library from '@huggingface/tokenizers'
import type { AddedTokenJson, StepJson } from './json-form.js'

export interface LibraryNormalizer {
  normalize(text: string): string
}

export interface LibraryPreTokenizer {
  /** `section_index`: the number of parts of the text in front, added tokens and others. */
  pre_tokenize(text: string, options: { section_index: number }): string[]
}

interface LibraryTokenizer {
  readonly normalizer: LibraryNormalizer | null
  readonly pre_tokenizer: LibraryPreTokenizer | null
}

const { AddedToken, Tokenizer } = library as unknown as {
  readonly AddedToken: new (token: AddedTokenJson) => Required<AddedTokenJson>
  readonly Tokenizer: new (tokenizerJson: object, config: object) => LibraryTokenizer
}

export function libraryNormalizer(normalizer: StepJson): LibraryNormalizer {
  return tokenizer({ normalizer, pre_tokenizer: null }).normalizer!
}

export function libraryPreTokenizer(pre_tokenizer: StepJson): LibraryPreTokenizer {
  return tokenizer({ normalizer: null, pre_tokenizer }).pre_tokenizer!
}

export function libraryAddedToken(token: AddedTokenJson): Required<AddedTokenJson> {
  return new AddedToken(token)
}

/** The model is empty: merges are bpe.ts's. */
function tokenizer(steps: object): LibraryTokenizer {
  const model = { type: 'BPE', vocab: {}, merges: [] }
  return new Tokenizer(
    { ...steps, model, added_tokens: [], post_processor: null, decoder: null },
    {},
  )
}
