/** The flags of `moepp chat`, and the conversation that they ask for. */

import { type Command, InvalidArgumentError, Option } from 'commander'
import type { GenerateOptions, LoadOptions } from '../options/generate.js'
import { parseToolChoice, parseValue } from './chat-settings.js'
import { Conversation, type Settings } from './conversation.js'
import { loadConversation, loadTools } from './conversation-file.js'
import { flagOf, UsageError } from './errors.js'
import type { Limits } from './generate-model.js'
import { type GrammarFlags, generateOptions } from './generate-options.js'

type Variables = Readonly<Record<string, unknown>>

export type ChatFlags = GenerateOptions &
  GrammarFlags &
  LoadOptions & {
    readonly model?: string
    readonly system?: string
    readonly load?: string
    readonly tools?: string
    readonly toolChoice?: string
    readonly templateName?: string
    readonly templateVariable?: Variables
    readonly loadState?: string
    readonly saveState?: string
    readonly json?: true
  }

export function addChatOptions(command: Command): Command {
  const options = [
    new Option('--system <text>', 'the system message'),
    new Option(
      '--load <file>',
      'go on with a conversation of /save, or with a JSON array of messages',
    ),
    new Option('--tools <file>', 'JSON array of tools that the model may call'),
    new Option('--tool-choice <choice>', "auto, none, required, or a tool's name (default: auto)"),
    new Option('--template-name <name>', "one of the checkpoint's templates, where it has several"),
    new Option(
      '--template-variable <name=value>',
      'variable of the template, as JSON or text; may be repeated',
    ).argParser(parseVariable),
    new Option('--load-state <file>', 'KV cache of an earlier chat, to go on with it at once'),
    new Option('--save-state <file>', 'write the KV cache there at the end, over an older file'),
    new Option('--json', 'messages and answers as JSON Lines, as without a terminal'),
  ]
  for (const option of options) command.addOption(option)
  return command
}

/** A flag without effect is an error. */
export function checkChatFlags(flags: ChatFlags, isData: boolean): void {
  if (isData) return
  for (const name of ['logprobs', 'promptLogprobs', 'routing'] as const)
    if (flags[name] !== undefined)
      throw new UsageError(`${flagOf(name)}: plain text cannot show it; add --json`)
}

/** The saved conversation, or an empty one. A flag replaces what is saved. */
export async function startConversation(flags: ChatFlags, limits: Limits): Promise<Conversation> {
  const conversation = new Conversation()
  if (flags.load !== undefined)
    Object.assign(conversation, await loadConversation(flags.load, limits))
  if (flags.system !== undefined) conversation.system = flags.system
  const tools = flags.tools === undefined ? undefined : await loadTools(flags.tools)
  conversation.settings = {
    ...conversation.settings,
    ...settingsOf(flags),
    ...(tools && { tools }),
  }
  return conversation
}

/** But for tools, which are in a file. */
function settingsOf(flags: ChatFlags): Settings {
  const { toolChoice, templateName, templateVariable } = flags
  const { logitBias, ...generation } = generateOptions(flags)
  return {
    ...generation,
    ...(logitBias && { logitBias: Object.fromEntries(logitBias as ReadonlyMap<number, number>) }),
    ...(toolChoice !== undefined && { toolChoice: parseToolChoice(toolChoice) }),
    ...(templateName !== undefined && { templateName }),
    ...(templateVariable !== undefined && { templateVariables: templateVariable }),
  }
}

function parseVariable(text: string, before: Variables = {}): Variables {
  const [, name, given] = /^([^=]+)=(.*)$/s.exec(text) ?? []
  if (name === undefined)
    throw new InvalidArgumentError('Expected a name and a value, like enable_thinking=false.')
  return { ...before, [name]: parseValue(given!) }
}
