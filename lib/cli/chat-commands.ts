/** The commands of `moepp chat`: lines that begin with a slash. */

import { printable, show } from '../base/json.js'
import { nearest } from '../base/option-checks.js'
import { nameOf } from '../chat/chat-options.js'
import { checkSettings, listSettings, settingHelp, withSetting } from './chat-settings.js'
import type { Conversation, Settings } from './conversation.js'
import { loadConversation, loadTools, saveConversation } from './conversation-file.js'
import { formatNumber, formatTable } from './format.js'
import type { Limits } from './generate-model.js'

/** The chat that a command acts on. */
export interface ChatState extends Limits {
  readonly conversation: Conversation
  /** The model's name. */
  readonly name: string
}

/** Text for the person, and what comes next: another answer, or the end. */
export interface Outcome {
  readonly say?: string
  readonly next?: 'answer' | 'quit'
}

interface ChatCommand {
  readonly usage: string
  readonly description: string
  /** @throws Error with a message for the person; then nothing has changed. */
  readonly run: (state: ChatState, argument: string) => Outcome | Promise<Outcome>
}

const COMMANDS: Readonly<Record<string, ChatCommand>> = {
  help: { usage: '', description: 'shows this', run: () => ({ say: help() }) },
  reset: {
    usage: '',
    description: 'starts over; system message, tools and settings stay',
    run: ({ conversation }) => {
      conversation.messages = []
      return { say: 'the conversation is empty' }
    },
  },
  retry: { usage: '', description: 'answers the last message once more', run: retry },
  system: {
    usage: '[TEXT]',
    description: 'shows or sets the system message of the conversation',
    run: ({ conversation }, text) => {
      if (text !== '') conversation.system = text
      return { say: conversation.system ?? 'there is no system message' }
    },
  },
  set: {
    usage: '[NAME [VALUE]]',
    description: 'shows or sets options, as in /set temperature 0.7',
    run: set,
  },
  unset: {
    usage: 'NAME',
    description: 'takes an option back, or system, or tools',
    run: unset,
  },
  tools: {
    usage: '[FILE]',
    description: 'shows or reads tools: a JSON array',
    run: tools,
  },
  save: {
    usage: 'FILE',
    description: 'writes the conversation as JSON; /save! replaces a file',
    run: (state, path) => save(state, path, false),
  },
  'save!': { usage: 'FILE', description: '', run: (state, path) => save(state, path, true) },
  load: {
    usage: 'FILE',
    description: 'goes on with a saved conversation, or an array of messages',
    run: load,
  },
  quit: {
    usage: '',
    description: 'ends the chat; so do /exit, /bye, /q and Ctrl-D',
    run: () => ({ next: 'quit' }),
  },
}

/** As other programs call it. */
const QUIT = ['exit', 'bye', 'q']

/** Other commands of other programs. */
const OTHERS: Readonly<Record<string, string>> = {
  '?': 'help',
  clear: 'reset',
  new: 'reset',
  regenerate: 'retry',
}

/** As they are typed, for completion. */
export const commandWords = Object.keys(COMMANDS).map(name => `/${name}`)

/** A message to the model, or a command. */
export type Parsed =
  | { readonly message: string }
  | { readonly command: string; readonly argument: string }

/** Undefined for a blank text. Two slashes are the one that a message begins with. */
export function parseEntry(text: string): Parsed | undefined {
  if (text.trim() === '') return undefined
  if (text.startsWith('//')) return { message: text.slice(1) }
  const [, command, argument] = /^\/(\S*)\s*(.*)$/s.exec(text) ?? []
  if (command === undefined) return { message: text }
  return { command: QUIT.includes(command) ? 'quit' : command, argument: argument!.trim() }
}

/** @throws Error with a message for the person */
export async function runCommand(
  state: ChatState,
  command: string,
  argument: string,
): Promise<Outcome> {
  if (Object.hasOwn(COMMANDS, command)) {
    const { usage, run } = COMMANDS[command]!
    if (usage === '' && argument !== '')
      throw new Error(`/${command}: takes nothing, got ${show(argument)}`)
    if (/^[A-Z]/.test(usage) && argument === '') throw new Error(`/${command}: expected ${usage}`)
    return run(state, argument)
  }
  const close = Object.hasOwn(OTHERS, command)
    ? OTHERS[command]
    : nearest(command, Object.keys(COMMANDS))
  const hint = close ? `did you mean /${close}?` : '/help lists the commands'
  const other = '(// begins a message with a slash)'
  throw new Error(`unknown command /${printable(command)}: ${hint} ${other}`)
}

function help(): string {
  const rows = Object.entries(COMMANDS)
    .filter(([, { description }]) => description !== '')
    .map(([name, { usage, description }]) => [`/${name} ${usage}`, description])
  return `${formatTable(rows, ['left', 'left'])}\n${KEYS}`
}

const KEYS = `
/set template.enable_thinking false sets a variable of the chat template.
A backslash at a line's end, or Alt-Enter, goes on to the next line of a
message. A pasted text is one message. // begins a message with a slash.
Ctrl-C stops an answer.`

function retry({ conversation }: ChatState): Outcome {
  const { messages } = conversation
  const last = messages.at(-1)
  if (last === undefined) throw new Error('/retry: there is no message to answer')
  if (last.role === 'assistant') conversation.messages = messages.slice(0, -1)
  return { next: 'answer' }
}

function change({ conversation, check }: ChatState, settings: Settings): void {
  checkSettings(settings, check)
  conversation.settings = settings
}

function set(state: ChatState, argument: string): Outcome {
  const { conversation } = state
  const [, name, value] = /^(\S+)(?:\s+(.*))?$/s.exec(argument) ?? []
  if (name !== undefined && value !== undefined)
    change(state, withSetting(conversation.settings, name, value))
  const all = listSettings(conversation.settings).join('\n')
  return { say: all === '' ? `no option is set. There are ${settingHelp}` : all }
}

function unset(state: ChatState, name: string): Outcome {
  const { conversation } = state
  if (name === 'system') conversation.system = undefined
  else if (name === 'tools') {
    const { tools: _, ...settings } = conversation.settings
    change(state, settings)
  } else change(state, withSetting(conversation.settings, name, undefined))
  return { say: `${name} is unset` }
}

async function tools(state: ChatState, path: string): Promise<Outcome> {
  const { conversation } = state
  if (path !== '') change(state, { ...conversation.settings, tools: await loadTools(path) })
  const { tools = [] } = conversation.settings
  return {
    say:
      tools.length === 0
        ? 'there are no tools'
        : tools.map(tool => printable(nameOf(tool) ?? show(tool))).join('\n'),
  }
}

async function save({ conversation, name }: ChatState, path: string, overwrites: boolean) {
  await saveConversation(path, conversation, { model: name, overwrites })
  return { say: `${formatNumber(conversation.messages.length, 'message')} saved in ${path}` }
}

async function load(state: ChatState, path: string): Promise<Outcome> {
  const { conversation } = state
  const { system, messages, settings } = await loadConversation(path, state)
  conversation.system = system
  conversation.messages = messages
  conversation.settings = settings
  const hint = conversation.awaitsAnswer ? '; /retry answers the last one' : ''
  return { say: `${formatNumber(messages.length, 'message')} of ${path}${hint}` }
}
