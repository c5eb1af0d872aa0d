/** The ids of a checkpoint's tokens: all of them, those in a role, and those around a text. */

import { show } from '../base/json.js'
import { bytesOfToken } from './byte-letters.js'
import { badTokenizer, type TokenizerJson } from './json-form.js'
import type { TokenEntry } from './piece-table.js'
import { byteOfPiece, PIECE_TYPE, type SentencePieceModel } from './sentencepiece.js'
import type { Role, TokenizerConfig } from './tokenizer-config.js'

/**
 * A token that stands for no text.
 *
 * @example
 * ```ts
 * import { loadTokenizer, type SpecialToken } from 'moepp'
 *
 * const tokenizer = await loadTokenizer('models/books-7m')
 * const name = ({ id, content }: SpecialToken) => `${content} is ${id}`
 * console.log(tokenizer.specialTokens.map(name))
 * ```
 */
export interface SpecialToken {
  /** Its id. */
  readonly id: number
  /** Its name, such as `<s>`. */
  readonly content: string
}

export function tokenEntries(
  json: TokenizerJson,
  model: SentencePieceModel | undefined,
  config: TokenizerConfig,
  isByteLevel: boolean,
): TokenEntry[] {
  const special = new Set(
    [...json.added_tokens, ...config.addedTokens]
      .filter(token => token.special)
      .map(token => token.content),
  )
  const added = json.added_tokens.map(
    ({ id, content }): TokenEntry => ({ id, content, special: special.has(content) }),
  )
  if (isByteLevel) return byteLevelEntries(json, added)
  const known = new Set<string>()
  const vocab = Object.entries(json.model.vocab).map(([content, id]): TokenEntry => {
    known.add(content)
    const byte = json.model.byte_fallback ? byteOfPiece(content) : undefined
    const bytes = byte === undefined ? undefined : Uint8Array.of(byte)
    if (model && id === model.unkTokenId) return { id, content, surface: model.unkSurface }
    const isControl = model?.pieces[id]?.type === PIECE_TYPE.control
    return { id, content, bytes, special: isControl || special.has(content) }
  })
  return [...vocab, ...added.filter(({ content }) => !known.has(content))]
}

/** Added tokens decode to their content, whether it is in the vocabulary or not. */
function byteLevelEntries(json: TokenizerJson, added: readonly TokenEntry[]): TokenEntry[] {
  const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
  const ids = new Set(added.map(({ id }) => id))
  const vocab = Object.entries(json.model.vocab).filter(([, id]) => !ids.has(id))
  return [
    ...vocab.map(([content, id]): TokenEntry => {
      const bytes = bytesOfToken(content)
      try {
        return { id, content, surface: utf8.decode(bytes) }
      } catch {
        return { id, content, bytes }
      }
    }),
    ...added.map(entry => ({ ...entry, surface: entry.content })),
  ]
}

/** LlamaTokenizer's names, for a checkpoint that says nothing. The byte-level form has none. */
const DEFAULT_ROLES: Readonly<Record<Role, string | undefined>> = {
  bos_token: '<s>',
  eos_token: '</s>',
  unk_token: '<unk>',
  pad_token: undefined,
}

export function roleId(
  role: Role,
  config: TokenizerConfig,
  ids: ReadonlyMap<string, number>,
  file: string,
  isByteLevel = false,
): number | undefined {
  const said = config.roles[role]
  const absent = isByteLevel ? undefined : DEFAULT_ROLES[role]
  const content = said === undefined ? absent : said
  const id = content === undefined || content === null ? undefined : ids.get(content)
  // A pad token outside of the vocabulary is common, and padding is not used.
  if (id === undefined && said && role !== 'pad_token') {
    throw badTokenizer(file, `${role} ${show(said)}`, 'a token of the vocabulary', undefined)
  }
  return id
}

/** As tokenizer_config.json says; if it says nothing, as the tokenizer's file does. */
export function idsIf(
  wanted: boolean | undefined,
  id: number | undefined,
  absent: readonly number[],
  role: string,
  file: string,
): readonly number[] {
  if (wanted === undefined) return absent
  if (!wanted) return []
  if (id === undefined)
    throw badTokenizer(file, `add_${role}_token`, `false without a ${role}_token`, true)
  return [id]
}
