/** The ids of a checkpoint's tokens: all of them, those in a role, and those around a text. */

import { show } from '../base/json.js'
import type { TokenEntry } from './piece-table.js'
import { byteOfPiece, PIECE_TYPE, type SentencePieceModel } from './sentencepiece.js'
import type { Role, TokenizerConfig } from './tokenizer-config.js'
import { badTokenizer, type TokenizerJson } from './tokenizer-json.js'

export function tokenEntries(
  json: TokenizerJson,
  model: SentencePieceModel | undefined,
  config: TokenizerConfig,
): TokenEntry[] {
  const special = new Set(
    [...json.added_tokens, ...config.addedTokens]
      .filter(token => token.special)
      .map(token => token.content),
  )
  const known = new Set<string>()
  const vocab = Object.entries(json.model.vocab).map(([content, id]): TokenEntry => {
    known.add(content)
    const byte = json.model.byte_fallback ? byteOfPiece(content) : undefined
    if (model && id === model.unkTokenId) return { id, content, surface: model.unkSurface }
    const isControl = model?.pieces[id]?.type === PIECE_TYPE.control
    return { id, content, byte, special: isControl || special.has(content) }
  })
  const added = json.added_tokens.filter(token => !known.has(token.content))
  return [
    ...vocab,
    ...added.map(({ id, content }) => ({ id, content, special: special.has(content) })),
  ]
}

/** LlamaTokenizer's names, where the checkpoint says nothing. */
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
): number | undefined {
  const said = config.roles[role]
  const content = said === undefined ? DEFAULT_ROLES[role] : said
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
