/**
 * The grammar of an answer: the caller's, or one that forces calls of tools. Thoughts may come
 * first, where the template knows them and the prompt has not closed them.
 */
import { MoeppError } from '../errors.js'
import type { GrammarSource } from '../grammar/grammar-text.js'
import type { ResolvedOptions } from '../options/generate.js'
import type { ChatTool } from '../template/messages.js'
import type { ChatFormat, ToolCallForm } from './chat-format.js'
import { functionOf, type SplitOptions } from './chat-options.js'
import type { ChatPrompt } from './chat-prompt.js'

/** A format object of XGrammar's structural tags. */
type Format = { readonly type: string } & Readonly<Record<string, unknown>>

/** @throws TypeError, RangeError; MoeppError ERR_UNSUPPORTED if no tool can be forced */
export function replyGrammar(
  { grammar }: Pick<ResolvedOptions, 'grammar'>,
  chat: SplitOptions,
  format: ChatFormat,
  { reasoning }: Pick<ChatPrompt, 'reasoning'>,
): Pick<ResolvedOptions, 'grammar'> {
  const isForced = chat.toolChoice !== 'auto' && chat.toolChoice !== 'none'
  if (!isForced && !grammar) return { grammar }
  if (isForced && grammar)
    throw new TypeError('grammar: toolChoice forces a call of a tool, which is no text')
  const answer = isForced ? forcedCalls(chat, format) : formatOf(grammar!)
  return { grammar: { structuralTag: withThoughts(answer, format, reasoning) } }
}

function formatOf(grammar: GrammarSource): Format {
  const [kind] = Object.keys(grammar)
  const place = `grammar.${kind}`
  if ('jsonSchema' in grammar)
    return { type: 'json_schema', json_schema: grammar.jsonSchema, place }
  if ('regex' in grammar) return { type: 'regex', pattern: grammar.regex, place }
  if ('ebnf' in grammar) return { type: 'grammar', grammar: grammar.ebnf, place }
  return grammar.structuralTag as Format
}

function withThoughts(
  answer: Format,
  { reasoning }: ChatFormat,
  start: ChatPrompt['reasoning'],
): Format {
  if (!reasoning || start === 'closed') return answer
  const begin = start === 'open' ? '' : reasoning.open
  const thoughts = { type: 'tag', begin, content: { type: 'any_text' }, end: reasoning.close }
  const breaks = { type: 'regex', pattern: '\\n{0,2}' }
  const both = { type: 'sequence', elements: [thoughts, breaks, answer] }
  return start === 'open' ? both : { type: 'or', elements: [answer, both] }
}

function forcedCalls({ tools, toolChoice }: SplitOptions, { toolCall }: ChatFormat): Format {
  if (!toolCall) {
    const message = 'toolChoice: the chat template has no form for calls of tools as JSON'
    throw new MoeppError('ERR_UNSUPPORTED', message)
  }
  const isOne = typeof toolChoice === 'object'
  const allowed = tools.map((tool, i) => ({ tool, place: `tools[${i}]` }))
  const chosen = isOne
    ? allowed.filter(({ tool }) => functionOf(tool)?.name === toolChoice.name)
    : allowed
  return {
    type: 'tags_with_separator',
    tags: chosen.map(({ tool, place }) => callTag(tool, place, toolCall)),
    separator: toolCall.between,
    at_least_one: true,
    stop_after_first: isOne,
  }
}

/** One call: its arguments follow the tool's schema. */
function callTag(tool: ChatTool, place: string, form: ToolCallForm): Format {
  const described = functionOf(tool)
  if (!described) throw new TypeError(`${place}: expected a function with a name, to be forced`)
  const name = JSON.stringify(described.name).slice(1, -1)
  return {
    type: 'tag',
    begin: form.open + form.beforeName + name + form.beforeArguments,
    content: {
      type: 'json_schema',
      json_schema: described.parameters,
      place: `${place}.function.parameters`,
    },
    end: form.afterArguments + form.close,
  }
}
