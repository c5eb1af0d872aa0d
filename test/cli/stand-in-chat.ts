/** A chat with a stand-in for the model, on a terminal of two streams. */
import { PassThrough } from 'node:stream'
import { stripVTControlCharacters } from 'node:util'
import type { ChatState } from '../../lib/cli/chat-commands.js'
import { type SessionParts, talk } from '../../lib/cli/chat-session.js'
import { Conversation } from '../../lib/cli/conversation.js'
import { Terminal } from '../../lib/cli/terminal.js'
import type { ChatChunk, ChatResult } from '../../lib/generation/chat-results.js'
import { resolveGenerateOptions } from '../../lib/options/generate.js'
import type { ChatMessage, ToolCall } from '../../lib/template/messages.js'
import { Screen } from './screen.js'

// node:readline looks at it.
process.env.TERM = 'xterm'

export interface Answer {
  readonly reasoning?: string
  readonly content?: string
  readonly toolCalls?: readonly ToolCall[]
  readonly finishReason?: 'stop' | 'length'
  /** Goes on until it is stopped. */
  readonly isEndless?: boolean
  readonly generatedTokens?: number
}

/** Gives the answers, one after the other, and keeps the conversations that it got. */
class StandIn {
  readonly config = { topK: 2 }
  readonly asked: (readonly ChatMessage[])[] = []
  readonly options: Record<string, unknown>[] = []
  readonly #answers: (Answer | Error)[]

  constructor(answers: (Answer | Error)[]) {
    this.#answers = answers
  }

  streamChat(messages: readonly ChatMessage[], options: { signal: AbortSignal }) {
    this.asked.push(messages)
    this.options.push({ ...options })
    const answer = this.#answers.shift()
    if (!answer) throw new Error('no answer is left')
    if (answer instanceof Error) throw answer
    return streamOf(answer, options.signal)
  }
}

function streamOf(answer: Answer, signal: AbortSignal) {
  const { isEndless, finishReason = 'stop', generatedTokens = 3, ...parts } = answer
  async function* chunks(): AsyncGenerator<ChatChunk> {
    if (Object.keys(parts).length > 0) yield { ...parts, tokenIds: [1] }
    if (isEndless && !signal.aborted)
      await new Promise(resolve => signal.addEventListener('abort', resolve))
  }
  const result = (): ChatResult => ({
    text: '',
    tokenIds: [1],
    message: { role: 'assistant', content: '', ...parts, tokenIds: [1] },
    finishReason: signal.aborted ? 'abort' : finishReason,
    usage: { promptTokens: 10, generatedTokens, cachedTokens: 6 },
    timings: {
      queueMs: 0,
      prefillMs: 10,
      decodeMs: 10,
      prefillTokensPerSecond: 400,
      decodeTokensPerSecond: 200,
    },
    routing: { first: 0, tokens: 12, ffnExpertsPerToken: 1.5, layers: [], counts: [] },
  })
  return {
    [Symbol.asyncIterator]: chunks,
    get result() {
      return Promise.resolve(result())
    },
  }
}

interface Options {
  readonly env?: NodeJS.ProcessEnv
  readonly signal?: AbortSignal
  readonly settings?: Conversation['settings']
}

/** Starts a chat whose model gives these answers, one after the other. */
export function start(
  answers: (Answer | Error)[],
  { env = {}, signal, settings = {} }: Options = {},
) {
  const [stdin, output] = [new PassThrough(), new PassThrough()]
  const screen = new Screen()
  output.on('data', bytes => screen.add(stripVTControlCharacters(String(bytes))))
  const isTerminal = { stdin: true, stdout: true, stderr: true }
  const streams = { stdin, stdout: output, stderr: output, columns: 80, isTerminal }
  const terminal = new Terminal(streams, { TERM: 'xterm', NO_COLOR: '1', ...env })
  const model = new StandIn(answers)
  const conversation = new Conversation()
  conversation.settings = settings
  const state: ChatState = {
    conversation,
    name: 'a-model',
    check: options => resolveGenerateOptions(options, {}, { vocabSize: 100 }),
    vocabSize: 100,
  }
  let onInterrupt: (() => void) | undefined
  const code = talk(
    {
      ...state,
      terminal,
      model: model as unknown as SessionParts['model'],
      signal: signal ?? new AbortController().signal,
    },
    {
      handle: instead => {
        onInterrupt = instead
      },
    },
  )
  return {
    model,
    conversation,
    screen,
    code,
    stdin,
    type: (...keys: string[]) => void stdin.write(keys.join('')),
    /** As the signal of a system that edits lines itself. */
    signalInterrupt: () => onInterrupt?.(),
  }
}
