/** `moepp chat`: a conversation with a person at a terminal, or with a program. */

import { Command } from 'commander'
import { MoeppError } from '../errors.js'
import { CHAT_DEFAULTS } from '../generation/chat.js'
import { readTokenizerConfig } from '../tokenizer/tokenizer-config.js'
import { addChatOptions, type ChatFlags, checkChatFlags, startConversation } from './chat-flags.js'
import { answerLines } from './chat-lines.js'
import { talk } from './chat-session.js'
import { checkSettings } from './chat-settings.js'
import { checkStateFile, loadState, saveState } from './chat-state.js'
import { type CreateCommand, runWork, type Work } from './command.js'
import { checkUsage } from './errors.js'
import { warnIgnored } from './generate-checks.js'
import { ModelSource } from './generate-model.js'
import { addGenerateOptions, CHAT_NAMES, generateOptions } from './generate-options.js'
import { addModelOption, requireModel } from './model-option.js'
import { addHubOptions } from './source.js'
import type { Terminal } from './terminal.js'

const EXAMPLE = 'moepp chat --model ./my-model'

export const chatCommand: CreateCommand = (terminal, setExitCode) => {
  const command = new Command('chat')
    .description(
      'Talks with a model that has a chat template. /help lists what can be typed. Without a terminal, messages and answers are JSON Lines.',
    )
    .addHelpText('after', EXPLANATION)
    .action((flags: ChatFlags) =>
      runWork(terminal, setExitCode, work =>
        chat(requireModel(flags, EXAMPLE), flags, terminal, work).then(setExitCode),
      ),
    )
  return addHubOptions(addGenerateOptions(addChatOptions(addModelOption(command)), CHAT_NAMES))
}

const EXPLANATION = `
JSON Lines: a line is a message, {"role": "user", "content": "..."}, or a string, which the user
says. After a user's message, and after the last result of a tool, comes one line: {"message":
{"role": "assistant", ...}, "finishReason", "usage", "timings", "ffnExpertsPerToken"}. {"messages":
[...]} replaces the conversation, and gives an answer if its last message asks for one. A system
message at its beginning replaces --system. {"reset": true} starts over and keeps that one. A line
that fails is taken back, and gives {"error": {"line", "code", "message"}}; the exit code is then 1.

Examples:
  $ moepp chat --model ./Qwen3-30B-A3B
  $ moepp chat --model ./Qwen3-30B-A3B --system "You are terse." --template-variable enable_thinking=false
  $ echo '"Name a river in Norway."' | moepp chat --model ./Qwen3-30B-A3B | jq -r .message.content
`

/** Resolves to the exit code. */
async function chat(
  name: string,
  flags: ChatFlags,
  terminal: Terminal,
  { progress, interrupt }: Work,
): Promise<number> {
  const isData = flags.json === true || !terminal.stdinIsTerminal || !terminal.stdoutIsTerminal
  checkChatFlags(flags, isData)
  if (flags.saveState !== undefined) await checkStateFile(flags.saveState)
  const signal = AbortSignal.any([interrupt.signal, terminal.closed])
  const source = new ModelSource(name, flags, progress, signal)
  source.checkEarly({ ...CHAT_DEFAULTS, ...generateOptions(flags) })
  const { directory, resolve: check, vocabSize } = await source.open(CHAT_DEFAULTS)
  const limits = { check, vocabSize }
  await requireTemplate(directory, name)
  const conversation = await startConversation(flags, limits)
  const resolved = checkUsage(() => checkSettings(conversation.settings, check))
  warnIgnored(flags, resolved, terminal)
  await using model = await source.load()
  const parts = { terminal, model, name, conversation, ...limits, signal }
  if (flags.loadState !== undefined) await loadState(flags.loadState, parts)
  if (!isData) terminal.note(`${name} on ${model.device.name}; /help lists what can be typed`)
  else if (terminal.stdinIsTerminal) terminal.note('reads messages as JSON, one a line: "Hello"')
  const exitCode = isData ? await answerLines(parts) : await talk(parts, interrupt)
  signal.throwIfAborted()
  if (flags.saveState !== undefined) await saveState(flags.saveState, parts)
  return exitCode
}

/** @throws MoeppError ERR_NO_CHAT_TEMPLATE before the weights are read */
async function requireTemplate(directory: string, name: string): Promise<void> {
  const { chat } = await readTokenizerConfig(directory)
  if (chat.templates.size > 0) return
  const remedy = `it has no chat template. To continue a text: moepp generate --model ${name}`
  throw new MoeppError('ERR_NO_CHAT_TEMPLATE', `${name} is a base model: ${remedy}`)
}
