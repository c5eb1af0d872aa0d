/**
 * A checkpoint's words about its tokenizer outside of the tokenizer's own file:
 * tokenizer_config.json, special_tokens_map.json, added_tokens.json and chat templates. All of them
 * may be absent.
 */

import { isObject, show } from '../base/json.js'
import type { PlainObject } from '../template/plain-data.js'
import { type ChatTemplates, namedTokens, readChatTemplates } from './chat-templates.js'
import { type AddedTokenJson, badTokenizer } from './json-form.js'
import { CONFIG_FILE, readJsonRecord } from './tokenizer-files.js'

export const ROLES = ['bos_token', 'eos_token', 'pad_token', 'unk_token'] as const
export type Role = (typeof ROLES)[number]

export interface TokenizerConfig {
  readonly addBosToken: boolean | undefined
  readonly addEosToken: boolean | undefined
  /**
   * False only where Hugging Face's LlamaTokenizer would obey it: add_prefix_space false and legacy
   * false.
   */
  readonly addPrefixSpace: boolean
  /** Content of the token in each role; null: there is none; undefined: not said. */
  readonly roles: Readonly<Record<Role, string | null | undefined>>
  /** Tokens that the checkpoint adds or describes. */
  readonly addedTokens: readonly AddedTokenJson[]
  readonly chat: ChatTemplates
  /** Special tokens, by the names that chat templates know. */
  readonly namedTokens: PlainObject
}

const MAP_FILE = 'special_tokens_map.json'
const ADDED_FILE = 'added_tokens.json'

export async function readTokenizerConfig(directory: string): Promise<TokenizerConfig> {
  const config = await readJsonRecord(directory, CONFIG_FILE)
  const map = await readJsonRecord(directory, MAP_FILE)
  const added = await readJsonRecord(directory, ADDED_FILE)
  const roles = ROLES.map(role => {
    const said = roleOf(config, role, CONFIG_FILE)
    return [role, said === undefined ? roleOf(map, role, MAP_FILE) : said]
  })
  const legacy = flag(config, 'legacy') ?? true
  return {
    addBosToken: flag(config, 'add_bos_token'),
    addEosToken: flag(config, 'add_eos_token'),
    addPrefixSpace: legacy || (flag(config, 'add_prefix_space') ?? true),
    roles: Object.fromEntries(roles) as TokenizerConfig['roles'],
    addedTokens: addedTokens(config, map, added),
    chat: await readChatTemplates(directory, config),
    namedTokens: namedTokens(config, map),
  }
}

function flag(config: Record<string, unknown>, key: string): boolean | undefined {
  const value = config[key] ?? undefined
  if (value !== undefined && typeof value !== 'boolean') {
    throw badTokenizer(CONFIG_FILE, key, 'a boolean', value)
  }
  return value
}

/** Tokens are written as their content or as an object with it. */
function roleOf(
  record: Record<string, unknown>,
  role: string,
  file: string,
): string | null | undefined {
  const value = Object.hasOwn(record, role) ? record[role] : undefined
  const content = isObject(value) ? value.content : value
  if (content === undefined && value === undefined) return undefined
  if (content === null || typeof content === 'string') return content
  throw badTokenizer(file, role, 'a token or null', value)
}

function addedTokens(
  config: Record<string, unknown>,
  map: Record<string, unknown>,
  added: Record<string, unknown>,
): AddedTokenJson[] {
  const named = [config, map].flatMap(record => [
    ...ROLES.map(role => roleOf(record, role, CONFIG_FILE)),
    ...extraSpecials(record.additional_special_tokens),
  ])
  const tokens = new Map<number, AddedTokenJson>()
  for (const [content, id] of Object.entries(added)) {
    if (!Number.isInteger(id)) throw badTokenizer(ADDED_FILE, show(content), 'a token id', id)
    tokens.set(id as number, { id: id as number, content, special: named.includes(content) })
  }
  const described = config.added_tokens_decoder ?? {}
  if (!isObject(described))
    throw badTokenizer(CONFIG_FILE, 'added_tokens_decoder', 'an object', described)
  for (const [key, token] of Object.entries(described)) {
    const where = `added_tokens_decoder[${show(key)}]`
    if (!/^\d{1,9}$/.test(key)) throw badTokenizer(CONFIG_FILE, where, 'a token id as its key', key)
    if (!isObject(token) || typeof token.content !== 'string') {
      throw badTokenizer(CONFIG_FILE, where, 'a token', token)
    }
    const special = token.special === true || named.includes(token.content)
    tokens.set(Number(key), { id: Number(key), content: token.content, special })
  }
  return [...tokens.values()]
}

function extraSpecials(value: unknown): string[] {
  const list = Array.isArray(value) ? value : []
  return list
    .map(token => (isObject(token) ? token.content : token))
    .filter(token => typeof token === 'string')
}
