/** A turn of a conversation: the template's prompt, a generation, and its text taken apart. */
import { type ChatFormat, marksOf, readChatFormat } from '../chat/chat-format.js'
import {
  type ChatOptions,
  type SplitOptions,
  splitChatOptions,
  type TemplateOptions,
} from '../chat/chat-options.js'
import { type ChatPrompt, chatPrompt } from '../chat/chat-prompt.js'
import { replyGrammar } from '../chat/reply-grammar.js'
import { ReplyParser, type ReplyParts } from '../chat/reply-parser.js'
import type { ResolvedOptions } from '../options/generate.js'
import type { TokenLogprobs } from '../sampling/sampler.js'
import { type ChatMessage, templateMessages } from '../template/messages.js'
import { PlainCopier } from '../template/plain-data.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import type { AssistantMessage, ChatChunk, ChatResult } from './chat-results.js'
import { deferred, type Job, settle, unlessAborted } from './job.js'
import { checkTokenIds, type PromptContext, promptIdsOfParts } from './prompt.js'
import type { GenerateChunk, GenerateResult } from './results.js'
import { JoinedRouting } from './routing.js'
import { GenerationStream } from './stream.js'
import type { TextCalls } from './text-calls.js'

/** A turn whose arguments are checked. */
interface ChatTurn {
  readonly call: 'chat' | 'streamChat'
  readonly messages: readonly ChatMessage[]
  readonly chat: SplitOptions
  readonly options: ResolvedOptions
}

/** An answer ends by itself, or where the context does. */
export const CHAT_DEFAULTS = { maxNewTokens: Number.MAX_SAFE_INTEGER }

/** Of a turn that was aborted before its prompt was known. */
const NO_PROMPT: ChatPrompt = { parts: [], reasoning: 'free' }

export class ChatCalls {
  readonly #texts: TextCalls
  readonly #tokenizer: Tokenizer
  readonly #prompts: PromptContext
  /** By the template's name. */
  readonly #formats = new Map<string | undefined, Promise<ChatFormat>>()

  constructor(texts: TextCalls, tokenizer: Tokenizer, prompts: PromptContext) {
    this.#texts = texts
    this.#tokenizer = tokenizer
    this.#prompts = prompts
  }

  /** Model.chat. */
  chat(messages: readonly ChatMessage[], options: ChatOptions): Promise<ChatResult> {
    const turn = this.#check('chat', messages, options)
    const { signal } = turn.options
    return settle(
      deferred(signal, signal => this.#start(turn, signal)),
      signal,
    )
  }

  /** Model.streamChat. */
  stream(
    messages: readonly ChatMessage[],
    options: ChatOptions,
  ): GenerationStream<ChatChunk, ChatResult> {
    const turn = this.#check('streamChat', messages, options)
    const { signal } = turn.options
    return new GenerationStream(
      onChunk => deferred(signal, signal => this.#start(turn, signal, onChunk)),
      signal,
    )
  }

  /**
   * @throws TypeError, RangeError; MoeppError ERR_NO_CHAT_TEMPLATE, ERR_BAD_CONFIG
   */
  #check(call: ChatTurn['call'], messages: readonly ChatMessage[], options: ChatOptions): ChatTurn {
    const chat = splitChatOptions(options)
    const copies = messageCopies(messages, this.#prompts.vocabSize)
    if (copies.length === 0) throw new RangeError('messages: expected at least one, got none')
    // Throws if there is none.
    void this.#tokenizer.template
    return {
      call,
      messages: copies,
      chat,
      options: this.#texts.resolve(chat.generation, CHAT_DEFAULTS),
    }
  }

  /** Renders and encodes the conversation, and starts the answer. */
  async #start(
    turn: ChatTurn,
    signal: AbortSignal,
    onChunk?: (chunk: ChatChunk) => void,
  ): Promise<Job<ChatResult>> {
    const { chat } = turn
    const tokenizer = this.#tokenizer
    const format = await this.#format(chat.templateName)
    const rendered = chatPrompt(turn.messages, chat, format, tokenizer)
    const prompt = (await unlessAborted(rendered, signal)) ?? NO_PROMPT
    const options = { ...turn.options, signal, ...replyGrammar(turn.options, chat, format, prompt) }
    const newParser = () =>
      new ReplyParser({
        format,
        reasoning: prompt.reasoning,
        // A grammar is one of the content.
        hasTools: chat.tools.length > 0 && turn.options.grammar === undefined,
      })
    const chunks = onChunk && new ChatChunks(newParser(), onChunk)
    const ids = await promptIdsOfParts(prompt.parts, 'messages', this.#prompts, signal)
    const endTokenIds = this.#texts.endTokenIds(options, endTokensOf(format, tokenizer))
    const { done, cancel } = await this.#texts.start(turn.call, ids, options, {
      endTokenIds,
      skipSpecialTokens: !hasSpecialMarks(format, tokenizer),
      ...(chunks && { onChunk: chunk => chunks.push(chunk) }),
    })
    const finish = (result: GenerateResult): ChatResult => {
      chunks?.end()
      return { ...result, message: messageOf(result, newParser(), endTokenIds) }
    }
    return { done: done.then(finish), cancel }
  }

  /**
   * The tokens of a conversation: those of its last answer behind the prompt that asked for it. So
   * the KV cache holds them all after that turn.
   * @throws as Model.chat
   */
  async tokenIds(
    messages: readonly ChatMessage[],
    options: TemplateOptions,
    signal: AbortSignal | undefined,
  ): Promise<number[]> {
    const { chat, messages: all } = this.#check('chat', messages, options)
    const last = all.at(-1)!
    const answer = last.role === 'assistant' ? (last.tokenIds ?? []) : []
    const asked = answer.length > 0 ? all.slice(0, -1) : all
    const format = await this.#format(chat.templateName)
    const { parts } = await chatPrompt(asked, chat, format, this.#tokenizer)
    return promptIdsOfParts([...parts, ...answer], 'messages', this.#prompts, signal)
  }

  #format(name: string | undefined): Promise<ChatFormat> {
    const known = this.#formats.get(name)
    if (known) return known
    const format = readChatFormat(this.#tokenizer.template, name)
    this.#formats.set(name, format)
    // A name that does not exist is an error each time, and is not remembered.
    format.catch(() => this.#formats.delete(name))
    return format
  }
}

/**
 * Copies of the messages as templates read them, with their tokens.
 * @throws TypeError or RangeError that names the place: `messages[2].tokenIds[0]`
 */
export function messageCopies(
  messages: readonly ChatMessage[],
  vocabSize: number,
): readonly ChatMessage[] {
  const copies = templateMessages(messages, new PlainCopier()) as readonly object[]
  return copies.map((copy, i) => {
    const { tokenIds } = messages[i]!
    if (tokenIds === undefined) return copy as ChatMessage
    const ids = checkTokenIds(tokenIds, `messages[${i}].tokenIds`, vocabSize)
    return { ...(copy as ChatMessage), tokenIds: ids }
  })
}

/** Hands a stream's chunks on in parts. Tokens whose text is held back come with the next part. */
class ChatChunks {
  readonly #parser: ReplyParser
  readonly #onChunk: (chunk: ChatChunk) => void
  #tokenIds: number[] = []
  #logprobs: TokenLogprobs[] = []
  readonly #routing = new JoinedRouting()

  constructor(parser: ReplyParser, onChunk: (chunk: ChatChunk) => void) {
    this.#parser = parser
    this.#onChunk = onChunk
  }

  push({ text, tokenIds, logprobs = [], routing }: GenerateChunk): void {
    this.#tokenIds.push(...tokenIds)
    this.#logprobs.push(...logprobs)
    this.#routing.add(routing)
    const parts = this.#parser.push(text)
    if (Object.keys(parts).length > 0) this.#giveOut(parts)
  }

  end(): void {
    const parts = this.#parser.end()
    const isLeft = this.#tokenIds.length > 0 || this.#routing.isLeft
    if (Object.keys(parts).length > 0 || isLeft) this.#giveOut(parts)
  }

  #giveOut(parts: ReplyParts): void {
    const [tokenIds, logprobs] = [this.#tokenIds, this.#logprobs]
    const routing = this.#routing.take()
    this.#tokenIds = []
    this.#logprobs = []
    this.#onChunk({
      ...parts,
      tokenIds,
      ...(logprobs.length > 0 && { logprobs }),
      ...(routing && { routing }),
    })
  }
}

function messageOf(
  { text, tokenIds }: GenerateResult,
  parser: ReplyParser,
  endTokenIds: ReadonlySet<number>,
): AssistantMessage {
  const parts = [parser.push(text), parser.end()]
  const reasoning = parts.map(part => part.reasoning ?? '').join('')
  const toolCalls = parts.flatMap(part => part.toolCalls ?? [])
  const hasEnd = endTokenIds.has(tokenIds.at(-1)!)
  return {
    role: 'assistant',
    content: parts.map(part => part.content ?? '').join(''),
    ...(reasoning !== '' && { reasoning }),
    ...(toolCalls.length > 0 && { toolCalls }),
    tokenIds: hasEnd ? tokenIds.slice(0, -1) : tokenIds.slice(),
  }
}

/** The token that the template puts behind an answer. */
function endTokensOf({ afterMessage }: ChatFormat, { specialTokens }: Tokenizer): number[] {
  const text = afterMessage.trimStart()
  const found = specialTokens.filter(({ content }) => text.startsWith(content))
  const longest = found.sort((a, b) => b.content.length - a.content.length)[0]
  return longest ? [longest.id] : []
}

/** True if a mark is a special token, which a text would leave out. */
function hasSpecialMarks(format: ChatFormat, tokenizer: Tokenizer): boolean {
  const marks = marksOf(format)
  return tokenizer.specialTokens.some(({ content }) => marks.includes(content))
}
