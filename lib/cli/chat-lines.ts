/** `moepp chat` with a program: a message a line in, an answer a line out, as JSON. */

import { isObject, parseAnyJson, show } from '../base/json.js'
import { MoeppError } from '../errors.js'
import type { Model } from '../generation/model.js'
import type { ChatMessage } from '../template/messages.js'
import { checkMessages, splitSystem } from './chat-messages.js'
import type { Conversation } from './conversation.js'
import { resultDocument } from './generate-report.js'
import { type Line, splitLines } from './lines.js'
import type { Terminal } from './terminal.js'

const MAX_LINE_BYTES = 16 * 2 ** 20

export interface LinesParts {
  readonly terminal: Terminal
  readonly model: Pick<Model, 'chat'>
  readonly conversation: Conversation
  readonly vocabSize: number
  readonly signal: AbortSignal
}

/** Resolves to the exit code: 1 if a line had no answer for an error. */
export async function answerLines(parts: LinesParts): Promise<number> {
  const { terminal, signal } = parts
  const { stdin } = terminal
  const stop = () => stdin.destroy()
  signal.addEventListener('abort', stop)
  let exitCode = 0
  try {
    for await (const line of splitLines(stdin, MAX_LINE_BYTES)) {
      if (line.text?.trim() === '') continue
      const answer = await answerLine(line, parts)
      signal.throwIfAborted()
      if (answer === undefined) continue
      if ('error' in answer) exitCode = 1
      await terminal.write(`${JSON.stringify(answer)}\n`)
    }
  } finally {
    signal.removeEventListener('abort', stop)
  }
  signal.throwIfAborted()
  return exitCode
}

/** Undefined where nothing is to be said yet. A failure changes nothing. */
async function answerLine(line: Line, parts: LinesParts): Promise<object | undefined> {
  const { conversation } = parts
  const { system, messages } = conversation
  try {
    takeLine(line, parts)
    return conversation.awaitsAnswer ? await answer(parts) : undefined
  } catch (error) {
    Object.assign(conversation, { system, messages })
    const isExpected =
      error instanceof MoeppError || error instanceof TypeError || error instanceof RangeError
    if (!isExpected) throw error
    const code = error instanceof MoeppError ? { code: error.code } : {}
    return { error: { line: line.number, ...code, message: error.message } }
  }
}

/** @throws TypeError, RangeError; MoeppError ERR_BAD_FILE */
function takeLine({ text, fault }: Line, { conversation, vocabSize }: LinesParts): void {
  if (text === undefined) throw new TypeError(fault)
  const value = parseAnyJson(text, 'expected a message', 'ERR_BAD_FILE')
  if (isObject(value) && 'reset' in value) {
    reset(value, conversation)
    return
  }
  if (isObject(value) && 'messages' in value) {
    replace(value, conversation, vocabSize)
    return
  }
  const message = typeof value === 'string' ? { role: 'user', content: value } : value
  if (!isObject(message))
    throw new TypeError(`expected a string or a message with a role, got ${show(value)}`)
  conversation.add(checkMessage(message, vocabSize))
}

function checkMessage(message: Record<string, unknown>, vocabSize: number): ChatMessage {
  try {
    return checkMessages([message], vocabSize)[0]!
  } catch (error) {
    throw new TypeError((error as Error).message.replace(/^messages\[0\]\.?/, ''), { cause: error })
  }
}

/** The system message stays unless the messages begin with another. */
function replace(
  value: Record<string, unknown>,
  conversation: Conversation,
  vocabSize: number,
): void {
  if (Object.keys(value).length > 1)
    throw new TypeError('expected {"messages": [...]} and no other field')
  const { system, messages } = splitSystem(undefined, checkMessages(value.messages, vocabSize))
  conversation.system = system ?? conversation.system
  conversation.messages = messages
}

function reset(value: Record<string, unknown>, conversation: Conversation): void {
  if (value.reset !== true || Object.keys(value).length > 1)
    throw new TypeError('expected {"reset": true} and no other field')
  conversation.messages = []
}

async function answer({ conversation, model, signal }: LinesParts): Promise<object> {
  const result = await model.chat(conversation.prompt, { ...conversation.options, signal })
  conversation.addAnswer(result)
  const { message, text: _, tokenIds: __, ...others } = result
  return { message, ...resultDocument(others, conversation.settings.routing === true) }
}
