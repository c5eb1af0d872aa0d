/**
 * From a conversation to the tokens of a prompt. An answer that the model gave before stands in it
 * with its own tokens, if the template writes it as the model did. So the next turn finds all of
 * them in the KV cache, even where the text's own encoding would be another.
 */
import { MoeppError } from '../errors.js'
import type { Rendering } from '../template/chat-template.js'
import type { ChatMessage } from '../template/messages.js'
import type { Part } from '../tokenizer/added-tokens.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import { type ChatFormat, marksOf } from './chat-format.js'
import type { SplitOptions } from './chat-options.js'
import { PlainWords } from './plain-words.js'

export interface ChatPrompt {
  /** Ids of tokens, and the texts between them: `Tokenizer.encodeParts` takes them. */
  readonly parts: readonly Part[]
  readonly reasoning: ReasoningStart
}

/** State of the thoughts where the answer begins. `free`: the model decides whether it thinks. */
export type ReasoningStart = 'free' | 'open' | 'closed'

/** An answer in the text of a conversation, `from` .. `to` - 1, and its tokens. */
interface KnownAnswer {
  readonly from: number
  readonly to: number
  readonly tokenIds: readonly number[]
}

/**
 * The prompt that asks for the next answer. Messages and options are plain data.
 * @throws TypeError, RangeError; MoeppError ERR_BAD_TEMPLATE
 */
export async function chatPrompt(
  messages: readonly ChatMessage[],
  { tools, templateName, templateVariables }: SplitOptions,
  format: ChatFormat,
  tokenizer: Tokenizer,
): Promise<ChatPrompt> {
  if (tools.length > 0 && !format.tellsTools) {
    const message = 'tools: the chat template does not tell the model of tools'
    throw new MoeppError('ERR_UNSUPPORTED', message)
  }
  const texts = messages.map((message, i) => withText(message, i, format))
  const words = new PlainWords(tokenizer, [texts, tools, templateVariables])
  const rendering: Rendering = {
    messages: words.marked(texts),
    options: {
      ...words.marked(templateVariables),
      ...(templateName !== undefined && { templateName }),
      ...(tools.length > 0 && { tools: words.marked(tools) }),
      addGenerationPrompt: true,
    },
  }
  const [text = '', before = ''] = await tokenizer.template.renderEach([
    rendering,
    { ...rendering, options: { ...rendering.options, addGenerationPrompt: false } },
  ])
  const generationPrompt = text.startsWith(before) ? text.slice(before.length) : ''
  const parts: Part[] = []
  let end = 0
  const answers = knownAnswers(text, generationPrompt, messages, format, tokenizer)
  for (const { from, to, tokenIds } of answers) {
    for (const part of words.parts(text.slice(end, from))) parts.push(part)
    for (const id of tokenIds) parts.push(id)
    end = to
  }
  for (const part of words.parts(text.slice(end))) parts.push(part)
  return { parts, reasoning: reasoningStart(generationPrompt, format) }
}

/** A message whose content the template takes: without parts, where it does not know them. */
function withText(message: ChatMessage, at: number, { takesParts }: ChatFormat): ChatMessage {
  const { content = null } = message
  if (content === null) return { ...message, content: '' }
  if (typeof content === 'string' || takesParts) return message
  const texts = content.map(({ type, text }, i) => {
    if (type === 'text' && typeof text === 'string') return text
    const place = `messages[${at}].content[${i}]`
    throw new TypeError(`${place}: expected { type: 'text', text }: the template knows no others`)
  })
  return { ...message, content: texts.join('\n') }
}

function reasoningStart(generationPrompt: string, { reasoning }: ChatFormat): ReasoningStart {
  if (!reasoning) return 'free'
  const opened = generationPrompt.lastIndexOf(reasoning.open)
  const closed = generationPrompt.lastIndexOf(reasoning.close)
  if (opened < 0 && closed < 0) return 'free'
  return opened > closed ? 'open' : 'closed'
}

/**
 * The answers that stand in the text just as they were generated, in order. Before one is the
 * generation prompt. Behind it is a special token, so that nothing is encoded across its end. A
 * template that drops thoughts later writes another text.
 */
function knownAnswers(
  text: string,
  generationPrompt: string,
  messages: readonly ChatMessage[],
  format: ChatFormat,
  tokenizer: Tokenizer,
): KnownAnswer[] {
  const specials = tokenizer.specialTokens.map(({ content }) => content)
  const marks = marksOf(format)
  // Tokens that continue a text keep the space in front.
  const before = tokenizer.encode('x', { addSpecialTokens: false })
  const isText = (id: number) => {
    const token = tokenizer.idToToken(id)
    return token !== undefined && (!tokenizer.isSpecial(id) || marks.includes(token))
  }
  let end = 0
  return messages.flatMap(({ role, tokenIds = [] }) => {
    if (role !== 'assistant' || tokenIds.length === 0 || !tokenIds.every(isText)) return []
    const stream = tokenizer.stream({ prompt: before, skipSpecialTokens: false })
    const written = tokenIds.map(id => stream.push(id)).join('') + stream.flush()
    const at = text.indexOf(generationPrompt + written, end)
    const from = at + generationPrompt.length
    const to = from + written.length
    if (at < 0 || !specials.some(special => text.startsWith(special, to))) return []
    end = to
    return [{ from, to, tokenIds }]
  })
}
