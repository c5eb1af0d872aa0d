/** The settings of `moepp chat`: options of each answer, which /set changes. */

import { printable } from '../base/json.js'
import { nearest } from '../base/option-checks.js'
import { splitChatOptions } from '../chat/chat-options.js'
import type { ResolvedOptions } from '../options/generate.js'
import type { Settings } from './conversation.js'
import type { Resolve } from './generate-model.js'
import { CHAT_NAMES } from './generate-options.js'

/** Their result is data, which no terminal shows. */
const DATA = ['logprobs', 'promptLogprobs', 'routing']

/** Names that /set knows. Tools come from a file, and template variables begin with `template.`. */
const SET_NAMES = [
  ...CHAT_NAMES.filter(name => !DATA.includes(name)),
  'toolChoice',
  'templateName',
] as const

/** Of a saved conversation. */
export const settingNames: readonly string[] = [...SET_NAMES, ...DATA, 'tools', 'templateVariables']

const TEMPLATE = 'template.'

/**
 * The settings with `name`, in camelCase or kebab-case, set to `text`, or without it.
 * @throws TypeError for a wrong name; the value is not checked
 */
export function withSetting(settings: Settings, name: string, text: string | undefined): Settings {
  return name.startsWith(TEMPLATE)
    ? withVariable(settings, name.slice(TEMPLATE.length), text)
    : withOption(settings, optionName(name), text)
}

/** @throws TypeError, RangeError */
export function checkSettings(settings: Settings, check: Resolve): ResolvedOptions {
  return check(splitChatOptions(settings).generation)
}

/** Each setting as `name value`, as /set takes it. */
export function listSettings({ tools, templateVariables = {}, ...options }: Settings): string[] {
  const variables = Object.entries(templateVariables).map(([name, value]): [string, unknown] => [
    printable(TEMPLATE + name),
    value,
  ])
  return [...Object.entries(options), ...variables]
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name} ${JSON.stringify(value)}`)
}

/** The names of settings, for people. */
export const settingHelp = `${SET_NAMES.join(', ')}, ${TEMPLATE}NAME`

function withOption(settings: Settings, name: string, text: string | undefined): Settings {
  const { [name]: _, ...others } = settings as Record<string, unknown>
  if (text === undefined) return others
  return { ...others, [name]: name === 'toolChoice' ? parseToolChoice(text) : parseValue(text) }
}

function withVariable(settings: Settings, name: string, text: string | undefined): Settings {
  const { [name]: _, ...others } = settings.templateVariables ?? {}
  if (name === '') throw new TypeError(`${TEMPLATE}: expected a name after the point`)
  const templateVariables = text === undefined ? others : { ...others, [name]: parseValue(text) }
  return { ...settings, templateVariables }
}

function optionName(name: string): string {
  const spelled = (text: string) => text.replaceAll(/[_-]/g, '').toLowerCase()
  const found = SET_NAMES.find(each => spelled(each) === spelled(name))
  if (found !== undefined) return found
  const close = nearest(name, SET_NAMES)
  const hint = close ? `did you mean ${close}?` : `expected one of ${settingHelp}`
  throw new TypeError(`unknown setting ${name}: ${hint}`)
}

/** JSON, or else the text itself. */
export function parseValue(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

/** `auto`, `none`, `required`, or the name of a tool. */
export function parseToolChoice(text: string): NonNullable<Settings['toolChoice']> {
  return text === 'auto' || text === 'none' || text === 'required' ? text : { name: text }
}
