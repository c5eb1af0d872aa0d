/**
 * What moepp uses of @huggingface/tokenizers 0.2.0. Its own type files import each other without
 * file extensions, which TypeScript does not resolve under nodenext, so the types are written down
 * here.
 */

import * as library from '@huggingface/tokenizers'

export interface BpeConfig {
  readonly type: 'BPE'
  readonly vocab: Readonly<Record<string, number>>
  readonly merges: readonly (readonly string[])[]
  readonly unk_token: string
  readonly fuse_unk: boolean
  readonly byte_fallback: boolean
}

interface Model {
  /** Cuts each text into tokens. */
  encode(texts: string[]): string[]
}

interface Bpe extends Model {
  /** By the JSON form of the pair. The lowest goes first, then the leftmost in the text. */
  readonly bpe_ranks: Map<string, number>
}

export interface LibraryTokenizer {
  model: Model
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] }
}

const typed = library as unknown as {
  readonly BPE: new (config: BpeConfig) => Bpe
  readonly Tokenizer: new (tokenizerJson: object, tokenizerConfig: object) => LibraryTokenizer
}

export const LibraryBpe = typed.BPE
export const LibraryTokenizer = typed.Tokenizer
