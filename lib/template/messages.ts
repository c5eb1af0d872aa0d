/** Conversations as callers write them, checked, and as chat templates read them. */
import { isObject, show } from '../base/json.js'
import { text } from '../base/option-checks.js'
import type { PlainCopier, PlainObject } from './plain-data.js'

/**
 * A call of a tool by a model.
 *
 * @example
 * ```ts
 * import type { ToolCall } from 'moepp'
 *
 * const call: ToolCall = { name: 'weather', arguments: { city: 'Oslo' } }
 * console.log(call.name, call.arguments)
 * ```
 */
export interface ToolCall {
  /** Of the function. Empty if the model wrote none: then the call is invalid. */
  readonly name: string
  /** A text where the model wrote no JSON object. */
  readonly arguments: Readonly<Record<string, unknown>> | string
  /** Names the call, for the message that answers it. */
  readonly id?: string | undefined
  /** Says why the call cannot be made. No template sees it. */
  readonly invalid?: string | undefined
}

/**
 * A tool that a model may call, as OpenAI's API describes it, or in any other form that the
 * checkpoint's chat template takes.
 *
 * @example
 * ```ts
 * import type { ChatTool } from 'moepp'
 *
 * const weather: ChatTool = {
 *   type: 'function',
 *   function: {
 *     name: 'weather',
 *     description: 'The weather of a city.',
 *     parameters: {
 *       type: 'object',
 *       properties: { city: { type: 'string' } },
 *       required: ['city'],
 *     },
 *   },
 * }
 * console.log(JSON.stringify(weather))
 * ```
 */
export type ChatTool =
  | {
      /** There is no other type. */
      readonly type: 'function'
      /** The function, as the model sees it. */
      readonly function: {
        /** The model calls it by this name. */
        readonly name: string
        /** Says what it does. */
        readonly description?: string | undefined
        /** A JSON schema of its arguments. */
        readonly parameters?: Readonly<Record<string, unknown>> | undefined
        /** Of OpenAI's API; most templates ignore it. */
        readonly strict?: boolean | undefined
      }
    }
  | { readonly [field: string]: unknown }

/**
 * A message of a conversation. A template may read further fields, which it gets as they are. The
 * names of Hugging Face and OpenAI, `tool_calls` say, are as good as these.
 *
 * @example
 * ```ts
 * import type { ChatMessage } from 'moepp'
 *
 * const messages: ChatMessage[] = [
 *   { role: 'system', content: 'You are terse.' },
 *   { role: 'user', content: 'How warm is it in Oslo?' },
 *   {
 *     role: 'assistant',
 *     content: '',
 *     reasoning: 'I have to look.',
 *     toolCalls: [{ name: 'weather', arguments: { city: 'Oslo' } }],
 *   },
 *   { role: 'tool', content: '{"celsius": 4}', name: 'weather' },
 * ]
 * console.log(messages.length)
 * ```
 */
export interface ChatMessage {
  /** Of the one who speaks: system, user, assistant, tool, or others that the template knows. */
  readonly role: string
  /** A text, null for none, or parts of the form that the template reads. */
  readonly content?: string | null | readonly Readonly<Record<string, unknown>>[] | undefined
  /** Thoughts of the model before its answer: the template's `reasoning_content`. */
  readonly reasoning?: string | undefined
  /** Calls of tools by the model: the template's `tool_calls`. */
  readonly toolCalls?: readonly ToolCall[] | undefined
  /** In a tool's message, the call that it answers: the template's `tool_call_id`. */
  readonly toolCallId?: string | undefined
  /** Of the tool, or of the one who speaks. */
  readonly name?: string | undefined
  /** Token ids that the model generated for this message. No template sees them. */
  readonly tokenIds?: readonly number[] | undefined
  readonly [field: string]: unknown
}

/** Fields that templates know by another name. */
const SNAKE: Readonly<Record<string, string>> = {
  reasoning: 'reasoning_content',
  toolCalls: 'tool_calls',
  toolCallId: 'tool_call_id',
}

type CheckField = (value: unknown, where: string) => unknown

/** Checks of a message's fields. Each gives the field as the template reads it. */
const FIELDS: Readonly<Record<string, CheckField>> = {
  content: checkContent,
  reasoning: checkText,
  toolCalls: checkToolCalls,
  toolCallId: checkText,
  name: (value, where) => (value === null ? null : checkText(value, where)),
}

/**
 * The messages as templates read them.
 * @throws TypeError or RangeError that names the place: `messages[2].role`
 */
export function templateMessages(messages: unknown, copier: PlainCopier): readonly PlainObject[] {
  if (!Array.isArray(messages))
    throw new TypeError(`messages: expected an array of messages, got ${show(messages)}`)
  return copier.copy(
    Array.from(messages, (message, i) => templateMessage(message, `messages[${i}]`)),
    'messages',
  ) as readonly PlainObject[]
}

/** The tools as templates read them. */
export function templateTools(tools: unknown, copier: PlainCopier): readonly PlainObject[] {
  if (!Array.isArray(tools))
    throw new TypeError(`tools: expected an array of tools, got ${show(tools)}`)
  tools.forEach((tool, i) => {
    if (!isObject(tool)) throw new TypeError(`tools[${i}]: expected an object, got ${show(tool)}`)
  })
  return copier.copy(tools, 'tools') as readonly PlainObject[]
}

function templateMessage(message: unknown, where: string): object {
  if (!isObject(message)) throw new TypeError(`${where}: expected a message, got ${show(message)}`)
  text(message.role, `${where}.role`)
  checkTokenIds(message.tokenIds, `${where}.tokenIds`)
  const fields: [string, unknown][] = []
  for (const [key, value] of Object.entries(message)) {
    if (key === 'tokenIds' || value === undefined) continue
    // As JSON of other programs has it. No content is something that a template may look at.
    if (value === null && key !== 'content' && Object.hasOwn(FIELDS, key)) continue
    const snake = Object.hasOwn(SNAKE, key) ? SNAKE[key]! : key
    if (snake !== key && message[snake] !== undefined)
      throw new TypeError(`${where}: expected ${key} or ${snake}, got both, which mean the same`)
    const check = Object.hasOwn(FIELDS, key) ? FIELDS[key] : undefined
    fields.push([snake, check ? check(value, `${where}.${key}`) : value])
  }
  return Object.fromEntries(fields)
}

function checkContent(value: unknown, where: string): unknown {
  if (value === null || typeof value === 'string') return value
  if (Array.isArray(value) && value.every(isObject)) return value
  throw new TypeError(`${where}: expected a string, null or a list of parts, got ${show(value)}`)
}

function checkText(value: unknown, where: string): unknown {
  if (typeof value === 'string') return value
  throw new TypeError(`${where}: expected a string, got ${show(value)}`)
}

function checkToolCalls(value: unknown, where: string): unknown {
  if (!Array.isArray(value))
    throw new TypeError(`${where}: expected an array of tool calls, got ${show(value)}`)
  return Array.from(value, (call, i) => templateCall(call, `${where}[${i}]`))
}

function templateCall(call: unknown, where: string): object {
  if (!isObject(call)) throw new TypeError(`${where}: expected a tool call, got ${show(call)}`)
  const { id, name, arguments: given, invalid } = call
  // A call that a model wrote wrongly may have none.
  if (invalid === undefined) text(name, `${where}.name`)
  else checkText(name, `${where}.name`)
  if (id !== undefined) checkText(id, `${where}.id`)
  if (typeof given !== 'string' && !isObject(given))
    throw new TypeError(`${where}.arguments: expected an object or a string, got ${show(given)}`)
  return { id, type: 'function', function: { name, arguments: given } }
}

function checkTokenIds(value: unknown, where: string): void {
  const isList = Array.isArray(value) && value.every(id => Number.isSafeInteger(id) && id >= 0)
  if (value === undefined || isList) return
  throw new TypeError(`${where}: expected an array of token ids, got ${show(value)}`)
}
