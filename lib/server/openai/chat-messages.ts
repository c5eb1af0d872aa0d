/** The messages of a chat in OpenAI's form, as the library takes them. */
import { isObject, show } from '../../base/json.js'
import { oneOf, text } from '../../base/option-checks.js'
import type { ChatMessage, ToolCall } from '../../template/messages.js'
import { badField } from '../errors.js'
import { checkNames, only, refused } from './fields.js'

type Given = Readonly<Record<string, unknown>>

const role = oneOf('system', 'developer', 'user', 'assistant', 'tool')

/** Older versions of lm-evaluation-harness write `type: 'text'` beside the content. */
const OF_ALL = ['role', 'content', 'name', 'type']
/** Those that the answers of this server and of others have are taken back. */
const OF_ASSISTANT = [
  'tool_calls',
  'reasoning_content',
  'reasoning',
  'refusal',
  'audio',
  'annotations',
  'function_call',
]
const FIELDS = {
  system: OF_ALL,
  developer: OF_ALL,
  user: OF_ALL,
  assistant: [...OF_ALL, ...OF_ASSISTANT],
  tool: [...OF_ALL, 'tool_call_id'],
}

/** The check of the field. */
/** Copying and rendering 100,000 would hold the event loop for seconds. */
const MOST_MESSAGES = 4096

export function messagesField(value: unknown, name: string): readonly ChatMessage[] {
  if (!Array.isArray(value) || value.length === 0)
    throw badField(name, `expected a list of messages, got ${show(value)}`)
  if (value.length > MOST_MESSAGES)
    throw badField(name, `expected at most ${MOST_MESSAGES} messages, got ${value.length}`)
  return value.map((message, i) => messageOf(message, `${name}[${i}]`))
}

/**
 * The messages as a template takes them. Few templates know OpenAI's role developer, which is that
 * of the system elsewhere.
 */
export function inTemplateRoles(
  messages: readonly ChatMessage[],
  template: string | undefined,
): readonly ChatMessage[] {
  if (template?.includes('developer')) return messages
  return messages.map(message =>
    message.role === 'developer' ? { ...message, role: 'system' } : message,
  )
}

function messageOf(value: unknown, place: string): ChatMessage {
  const given = fieldsOf(value, place)
  const who = role(given.role, `${place}.role`)
  checkNames(given, FIELDS[who], `${place}.`)
  const toolCalls = toolCallsOf(given.tool_calls ?? [], `${place}.tool_calls`)
  const isAnswer = who === 'assistant'
  const content =
    given.content === undefined && isAnswer ? '' : contentOf(given.content, `${place}.content`)
  const reasoning = given.reasoning_content ?? given.reasoning
  if (given.type !== undefined) only('text')(given.type, `${place}.type`)
  for (const name of ['refusal', 'audio', 'function_call'])
    if (given[name] !== undefined) refused(given[name], `${place}.${name}`)
  return {
    role: who,
    content,
    ...(given.name !== undefined && { name: text(given.name, `${place}.name`) }),
    ...(toolCalls.length > 0 && { toolCalls }),
    ...(reasoning !== undefined && {
      reasoning: stringOf(reasoning, `${place}.reasoning_content`),
    }),
    ...(who === 'tool' && { toolCallId: text(given.tool_call_id, `${place}.tool_call_id`) }),
  }
}

/** The fields of an object; those that are null count as absent. */
function fieldsOf(value: unknown, place: string): Given {
  if (!isObject(value)) throw badField(place, `expected an object, got ${show(value)}`)
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== null))
}

function contentOf(value: unknown, place: string): string | Given[] {
  if (typeof value === 'string') return value
  if (!Array.isArray(value))
    throw badField(place, `expected a text or a list of parts, got ${show(value)}`)
  return value.map((part, i) => textPart(part, `${place}[${i}]`))
}

function textPart(value: unknown, place: string): Given {
  const part = fieldsOf(value, place)
  if (part.type !== 'text')
    throw badField(`${place}.type`, `only "text" is supported, got ${show(part.type)}`)
  checkNames(part, ['type', 'text'], `${place}.`)
  return { type: 'text', text: stringOf(part.text, `${place}.text`) }
}

function toolCallsOf(value: unknown, place: string): ToolCall[] {
  if (!Array.isArray(value)) throw badField(place, `expected a list of calls, got ${show(value)}`)
  return value.map((call, i) => toolCallOf(call, `${place}[${i}]`))
}

function toolCallOf(value: unknown, place: string): ToolCall {
  const call = fieldsOf(value, place)
  checkNames(call, ['id', 'type', 'function', 'index'], `${place}.`)
  if ((call.type ?? 'function') !== 'function')
    throw badField(`${place}.type`, `only "function" is supported, got ${show(call.type)}`)
  const { name, arguments: given } = fieldsOf(call.function, `${place}.function`)
  const id = call.id === undefined ? {} : { id: text(call.id, `${place}.id`) }
  const called = stringOf(name, `${place}.function.name`)
  const written = stringOf(given, `${place}.function.arguments`)
  const parsed = objectIn(written)
  // A wrong call of an earlier answer is told to the model as it was.
  if (parsed === undefined)
    return { ...id, name: called, arguments: written, invalid: 'its arguments are no JSON object' }
  return { ...id, name: text(called, `${place}.function.name`), arguments: parsed }
}

/** The object that a JSON text stands for; undefined if it stands for none. */
function objectIn(json: string): Record<string, unknown> | undefined {
  if (json.trim() === '') return {}
  try {
    const value: unknown = JSON.parse(json)
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

function stringOf(value: unknown, place: string): string {
  if (typeof value === 'string') return value
  throw badField(place, `expected a text, got ${show(value)}`)
}
