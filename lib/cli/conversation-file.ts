/** Conversations in files: JSON, read with suspicion. */

import { writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { readText } from '../base/input-file.js'
import { isObject, parseJson, show } from '../base/json.js'
import { MoeppError } from '../errors.js'
import { type ChatTool, templateTools } from '../template/messages.js'
import { PlainCopier } from '../template/plain-data.js'
import { checkMessages, splitSystem } from './chat-messages.js'
import { checkSettings, settingNames } from './chat-settings.js'
import type { Conversation, Settings } from './conversation.js'
import type { Limits, Resolve } from './generate-model.js'

const MAX_BYTES = 64 * 2 ** 20

/** The content of a file. */
export type SavedConversation = Pick<Conversation, 'system' | 'messages' | 'settings'>

const FIELDS = ['model', 'system', 'messages', 'settings']

/**
 * Writes a new file, or with `overwrites` any.
 * @throws MoeppError ERR_CANNOT_WRITE
 */
export async function saveConversation(
  path: string,
  { system, messages, settings }: SavedConversation,
  { model, overwrites }: { readonly model: string; readonly overwrites: boolean },
): Promise<void> {
  const text = JSON.stringify({ model, system, messages, settings }, banAsText, 2)
  try {
    await writeFile(home(path), `${text}\n`, { flag: overwrites ? 'w' : 'wx' })
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    const reason = code === 'EEXIST' ? `is there already; /save! overwrites it` : message
    throw new MoeppError('ERR_CANNOT_WRITE', `${path}: ${reason}`, { cause })
  }
}

/**
 * Reads what saveConversation writes, an object with `messages` alone, or an array of messages.
 * @throws MoeppError ERR_NOT_FOUND, ERR_BAD_FILE
 */
export async function loadConversation(
  path: string,
  { check, vocabSize }: Limits,
): Promise<SavedConversation> {
  const value = parseJson(await readText(home(path), MAX_BYTES), path)
  return asBadFile(path, () => {
    const saved = Array.isArray(value) ? { messages: value } : value
    if (!isObject(saved))
      throw new TypeError(`expected a conversation or an array of messages, got ${show(saved)}`)
    const other = Object.keys(saved).find(name => !FIELDS.includes(name))
    if (other !== undefined)
      throw new TypeError(`expected the fields ${FIELDS.join(', ')}, got ${show(other)}`)
    const { system, messages = [], settings = {} } = saved
    if (system !== undefined && typeof system !== 'string')
      throw new TypeError(`system: expected a string, got ${show(system)}`)
    return {
      ...splitSystem(system, checkMessages(messages, vocabSize)),
      settings: checkedSettings(settings, check),
    }
  })
}

/**
 * A JSON array of tools.
 * @throws MoeppError ERR_NOT_FOUND, ERR_BAD_FILE
 */
export async function loadTools(path: string): Promise<readonly ChatTool[]> {
  const tools = parseJson(await readText(home(path), MAX_BYTES), path)
  return asBadFile(path, () => {
    templateTools(tools, new PlainCopier())
    return tools as readonly ChatTool[]
  })
}

function checkedSettings(saved: unknown, check: Resolve): Settings {
  if (!isObject(saved)) throw new TypeError(`settings: expected an object, got ${show(saved)}`)
  const other = Object.keys(saved).find(name => !settingNames.includes(name))
  if (other !== undefined) throw new TypeError(`settings: unknown setting ${show(other)}`)
  const { logitBias } = saved
  const settings: Settings = {
    ...saved,
    ...(isObject(logitBias) && { logitBias: withBans(logitBias) }),
  }
  try {
    checkSettings(settings, check)
  } catch (error) {
    throw new TypeError(`settings.${(error as Error).message}`, { cause: error })
  }
  return settings
}

const BAN = '-Infinity'

/** JSON has no -Infinity, which bans a token. */
function banAsText(_: string, value: unknown): unknown {
  return value === -Infinity ? BAN : value
}

function withBans(logitBias: Record<string, unknown>): Record<number, number> {
  const entries = Object.entries(logitBias)
  return Object.fromEntries(
    entries.map(([id, bias]) => [id, bias === BAN ? -Infinity : bias]),
  ) as Record<number, number>
}

function asBadFile<T>(path: string, read: () => T): T {
  try {
    return read()
  } catch (cause) {
    if (!(cause instanceof TypeError || cause instanceof RangeError)) throw cause
    throw new MoeppError('ERR_BAD_FILE', `${path}: ${cause.message}`, { cause })
  }
}

/** `~/` as shells read it. */
function home(path: string): string {
  return path.replace(/^~(?=\/)/, homedir())
}
