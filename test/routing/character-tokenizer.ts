/** A tokenizer whose tokens are single characters: texts stand for any ids. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadTokenizer, type Tokenizer } from '../../lib/tokenizer/tokenizer.js'

/** Character i of `characters` is token i. */
export async function characterTokenizer(characters: readonly string[]): Promise<Tokenizer> {
  const json = {
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' },
        { type: 'Fuse' },
      ],
    },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(characters.map((character, id) => [character, id])),
      merges: [],
    },
  }
  const directory = mkdtempSync(join(tmpdir(), 'moepp-characters-'))
  try {
    writeFileSync(join(directory, 'tokenizer.json'), JSON.stringify(json))
    return await loadTokenizer(directory)
  } finally {
    rmSync(directory, { recursive: true })
  }
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
