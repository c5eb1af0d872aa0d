/** A tokenizer whose tokens are single characters: texts stand for any ids. */
import { Tokenizer } from '../../lib/tokenizer/tokenizer.js'
import { checkTokenizerJson } from '../../lib/tokenizer/tokenizer-json.js'

/** Character i of `characters` is token i. */
export function characterTokenizer(characters: readonly string[]): Tokenizer {
  const json = {
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: { type: 'Fuse' },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(characters.map((character, id) => [character, id])),
      merges: [],
    },
  }
  const config = {
    addBosToken: undefined,
    addEosToken: undefined,
    tokens: {},
    namedTokens: {},
    chat: { templates: new Map() },
  }
  return new Tokenizer(
    checkTokenizerJson(json as never, 'characters'),
    config as never,
    'characters',
  )
}

/** `count` letters. */
export function letters(count: number): string[] {
  return Array.from({ length: count }, (_, i) => String.fromCodePoint(0x4e00 + i))
}

/** A text in pieces of these lengths, again and again. */
export async function* inPieces(text: string, lengths: readonly number[]): AsyncGenerator<string> {
  for (let at = 0, i = 0; at < text.length; i++) {
    const length = lengths[i % lengths.length]!
    yield text.slice(at, at + length)
    at += length
  }
}
