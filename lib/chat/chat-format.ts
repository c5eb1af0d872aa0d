/**
 * The form of an assistant's message, as the checkpoint's template writes it. A small conversation
 * of known words is rendered. The marks around thoughts and calls of tools are read off it, and the
 * text that ends a message.
 */
import { WorkerFault } from '../base/guarded-worker.js'
import { MoeppError } from '../errors.js'
import type { ChatTemplate } from '../template/chat-template.js'
import type { ChatMessage, ChatTool } from '../template/messages.js'

/** Marks around a part of a message: `<think>` and `</think>`. */
export interface Marks {
  readonly open: string
  readonly close: string
}

/**
 * A call of a tool as JSON between marks: `open`, `beforeName`, the name, `beforeArguments`, the
 * arguments as JSON, `afterArguments`, `close`. A model may set other white space.
 */
export interface ToolCallForm extends Marks {
  readonly beforeName: string
  readonly beforeArguments: string
  readonly afterArguments: string
  /** From one call to the next. */
  readonly between: string
}

export interface ChatFormat {
  /** Absent if the template knows no thoughts. */
  readonly reasoning?: Marks
  /** Absent if the template knows no calls of tools as JSON. */
  readonly toolCall?: ToolCallForm
  /** Text that follows a message of the assistant's. */
  readonly afterMessage: string
  /** True if the template tells the model of tools. */
  readonly tellsTools: boolean
  /** True if the template writes content that is a list of parts. */
  readonly takesParts: boolean
}

// Words that no template has, and that no template changes.
const USER = 'moeppuser'
const CONTENT = 'moeppcontent'
const REASONING = 'moeppreasoning'
const THOUGHTS = `<think>${REASONING}</think>`
const NAME = 'moeppname'
const KEY = 'moeppkey'
const VALUE = 'moeppvalue'

const TOOL: ChatTool = {
  type: 'function',
  function: {
    name: NAME,
    description: '',
    parameters: { type: 'object', properties: { [KEY]: { type: 'string' } } },
  },
}
const CALL = { name: NAME, arguments: { [KEY]: VALUE } }
const ASKED: ChatMessage = { role: 'user', content: USER }
const ANSWER: ChatMessage = { role: 'assistant', content: CONTENT }

/** Asks `template` for the form; `templateName` as in its options. */
export async function readChatFormat(
  template: ChatTemplate,
  templateName: string | undefined,
): Promise<ChatFormat> {
  const named = templateName === undefined ? {} : { templateName }
  const render = async (messages: readonly ChatMessage[], tools?: readonly ChatTool[]) =>
    (await unlessRefused(template.render(messages, { ...named, ...(tools && { tools }) }))) ?? ''
  const plain = await render([ASKED, ANSWER, ASKED])
  const thinking = await render([ASKED, { ...ANSWER, reasoning: REASONING }])
  const calling = await render([ASKED, { ...ANSWER, toolCalls: [CALL, CALL] }], [TOOL])
  const drops = await render([ASKED, { ...ANSWER, content: `${THOUGHTS}${CONTENT}` }, ASKED])
  const told = await render([ASKED], [TOOL])
  const parts = await render([{ role: 'user', content: [{ type: 'text', text: USER }] }])
  const reasoning = reasoningOf(thinking) ?? droppedReasoning(drops)
  const toolCall = toolCallOf(calling)
  return {
    afterMessage: between(plain, CONTENT, USER) ?? '',
    tellsTools: told.includes(NAME),
    takesParts: parts.includes(USER) && !parts.includes('type'),
    ...(reasoning && { reasoning }),
    ...(toolCall && { toolCall }),
  }
}

/** The marks around parts of a message. */
export function marksOf({ reasoning, toolCall }: Pick<ChatFormat, 'reasoning' | 'toolCall'>) {
  return [reasoning, toolCall].flatMap(form => (form ? [form.open, form.close] : []))
}

/**
 * Undefined if the template refuses the messages: then it has no form for them. One that passed a
 * limit is not asked again.
 */
async function unlessRefused<T>(rendered: Promise<T>): Promise<T | undefined> {
  try {
    return await rendered
  } catch (error) {
    const isRefusal = error instanceof MoeppError && error.code === 'ERR_BAD_TEMPLATE'
    if (isRefusal && !(error.cause instanceof WorkerFault)) return undefined
    throw error
  }
}

/** Some templates write no thoughts, but take them out of earlier answers. */
function droppedReasoning(text: string): ChatFormat['reasoning'] {
  const isDropped = text.includes(CONTENT) && !text.includes(REASONING)
  return isDropped ? { open: '<think>', close: '</think>' } : undefined
}

function reasoningOf(text: string): ChatFormat['reasoning'] {
  const close = between(text, REASONING, CONTENT)
  if (close === undefined || close.trim() === '') return undefined
  const before = text.slice(0, text.indexOf(REASONING))
  const open = /<[^<>\s]+>\s*$/.exec(before)?.[0]
  if (open === undefined) return undefined
  return { open: open.trim(), close: close.trim() }
}

function toolCallOf(text: string): ToolCallForm | undefined {
  // The list of tools, which has the name too, may stand before the content.
  const answer = text.slice(text.indexOf(CONTENT))
  const found = /\s*(<[^<>\s]+>)(\s*\{.*)$/s.exec(between(answer, CONTENT, NAME) ?? '')
  if (!found) return undefined
  const [, open, beforeName] = found
  const call = answer.slice(answer.indexOf(NAME) + NAME.length)
  const values = /^(.*?)(\{\s*"moeppkey"\s*:\s*"moeppvalue"\s*\})(\s*\}\s*)(<[^<>\s]+>)/s.exec(call)
  if (!values) return undefined
  const [whole, beforeArguments, , afterArguments, close] = values
  const next = call.slice(whole.length)
  return {
    open: open!,
    close: close!,
    beforeName: beforeName!,
    beforeArguments: beforeArguments!,
    afterArguments: afterArguments!,
    between: next.slice(0, Math.max(0, next.indexOf(open!))),
  }
}

/** The text from the end of `from` to the next `to`; undefined if they do not stand so. */
function between(text: string, from: string, to: string): string | undefined {
  const start = text.indexOf(from)
  if (start < 0) return undefined
  const end = text.indexOf(to, start + from.length)
  return end < 0 ? undefined : text.slice(start + from.length, end)
}
