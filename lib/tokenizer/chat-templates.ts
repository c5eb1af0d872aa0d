/** Reads a checkpoint's chat templates, and the tokens that they name. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { decodeUtf8 } from '../base/input-file.js'
import { isObject, show } from '../base/json.js'
import { MoeppError } from '../errors.js'
import type { PlainObject } from '../template/plain-data.js'
import { badTokenizer } from './json-form.js'
import { CONFIG_FILE, readJsonRecord, readOptional } from './tokenizer-files.js'

const FILE = 'chat_template.jinja'
const JSON_FILE = 'chat_template.json'
const FOLDER = 'additional_chat_templates'
/** Real checkpoints have three. */
const MOST_TEMPLATES = 64

export interface ChatTemplates {
  /** By name; none for a base model. */
  readonly templates: ReadonlyMap<string, string>
  /** The file or folder that they come from. */
  readonly file: string
}

/**
 * As transformers' PreTrainedTokenizerBase.from_pretrained finds them: chat_template.jinja is the
 * default template, each file of additional_chat_templates one more. If there are any, they replace
 * those of tokenizer_config.json. chat_template.json is an old form that processors alone have, so
 * it comes last.
 */
export async function readChatTemplates(
  directory: string,
  config: Record<string, unknown>,
): Promise<ChatTemplates> {
  const file = join(directory, FILE)
  const texts = await readTemplateFiles(directory)
  if (texts.size > 0) return { templates: texts, file: texts.has('default') ? file : directory }
  const configFile = join(directory, CONFIG_FILE)
  const named = templatesOf(config.chat_template, configFile)
  if (named.size > 0) return { templates: named, file: configFile }
  const jsonFile = join(directory, JSON_FILE)
  const json = await readJsonRecord(directory, JSON_FILE)
  return { templates: templatesOf(json.chat_template, jsonFile), file: jsonFile }
}

async function readTemplateFiles(directory: string): Promise<Map<string, string>> {
  const templates = new Map<string, string>()
  const paths: [string, string][] = [['default', join(directory, FILE)]]
  for (const name of await namesIn(join(directory, FOLDER)))
    paths.push([name.slice(0, -'.jinja'.length), join(directory, FOLDER, name)])
  for (const [name, path] of paths) {
    const bytes = await readOptional(path)
    if (bytes) templates.set(name, decodeUtf8(bytes, path, 'ERR_BAD_TOKENIZER'))
  }
  return templates
}

async function namesIn(folder: string): Promise<string[]> {
  const all = await readdir(folder).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT' || cause.code === 'ENOTDIR') return []
    const message = `${folder}: cannot be read: ${cause.message}`
    throw new MoeppError('ERR_NOT_FOUND', message, { cause })
  })
  const names = all.filter(name => name.endsWith('.jinja')).sort()
  if (names.length > MOST_TEMPLATES)
    throw badTokenizer(folder, 'the number of templates', `<= ${MOST_TEMPLATES}`, names.length)
  return names
}

/** Those of a text, or of a list of {name, template}. */
function templatesOf(value: unknown, file: string): Map<string, string> {
  if (value === undefined || value === null) return new Map()
  if (typeof value === 'string') return new Map([['default', value]])
  if (!Array.isArray(value) || !value.every(isObject) || value.length > MOST_TEMPLATES)
    throw badTokenizer(file, 'chat_template', 'a text, or a list of templates', value)
  const templates = new Map<string, string>()
  for (const { name, template } of value) {
    if (typeof name !== 'string' || typeof template !== 'string')
      throw badTokenizer(file, 'chat_template', 'a name and a template each', show(name))
    templates.set(name, template)
  }
  return templates
}

/**
 * Special tokens by the names that transformers gives templates (special_tokens_map): each
 * `..._token` that a file names, and additional_special_tokens.
 */
export function namedTokens(
  config: Record<string, unknown>,
  map: Record<string, unknown>,
): PlainObject {
  const tokens = Object.entries({ ...map, ...config })
    .filter(([name]) => name.endsWith('_token'))
    .map(([name, value]) => [name, contentOf(value)])
  const more = config.additional_special_tokens ?? map.additional_special_tokens
  const others = Array.isArray(more) ? more.map(contentOf).filter(text => text !== undefined) : []
  return Object.fromEntries([
    ...tokens.filter(([, content]) => content),
    ...(others.length > 0 ? [['additional_special_tokens', others]] : []),
  ])
}

/** Tokens are written as their content or as an object with it. */
function contentOf(value: unknown): string | undefined {
  const content = isObject(value) ? value.content : value
  return typeof content === 'string' ? content : undefined
}
