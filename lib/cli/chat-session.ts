/** `moepp chat` with a person: reads messages and commands, and shows answers. */

import { printable } from '../base/json.js'
import { MoeppError } from '../errors.js'
import type { ChatResult } from '../generation/chat-results.js'
import type { Model } from '../generation/model.js'
import type { ToolCall } from '../template/messages.js'
import { type ChatState, commandWords, parseEntry, runCommand } from './chat-commands.js'
import { ChatScreen } from './chat-screen.js'
import { checkSettings } from './chat-settings.js'
import { describe } from './errors.js'
import { figuresLine } from './generate-report.js'
import type { Interrupt } from './interrupt.js'
import { LineEditor } from './line-editor.js'
import type { Terminal } from './terminal.js'
import { visible } from './visible.js'

export interface SessionParts extends ChatState {
  readonly terminal: Terminal
  readonly model: Pick<Model, 'streamChat' | 'config'>
  /** Ends the chat: a signal other than Ctrl-C, or a terminal that is gone. */
  readonly signal: AbortSignal
}

const AFTER_INTERRUPT = 130
const MORE_CONTEXT = '/reset starts over; a larger --context-length holds more'

/** Resolves to the exit code. */
export async function talk(
  parts: SessionParts,
  interrupt: Pick<Interrupt, 'handle'>,
): Promise<number> {
  using session = new ChatSession(parts)
  interrupt.handle(() => session.interrupt())
  try {
    return await session.run()
  } finally {
    interrupt.handle(undefined)
  }
}

class ChatSession implements Disposable {
  readonly #parts: SessionParts
  readonly #editor: LineEditor
  /** Ends the work on the latest entry. */
  #stop = new AbortController()

  constructor(parts: SessionParts) {
    this.#parts = parts
    this.#editor = new LineEditor(parts.terminal, {
      onInterrupt: () => this.#stop.abort(),
      words: commandWords,
    })
    parts.signal.addEventListener('abort', this.#onSignal)
  }

  interrupt(): void {
    this.#editor.interrupt()
  }

  async run(): Promise<number> {
    let isSecond = false
    while (!this.#parts.signal.aborted) {
      this.#stop = new AbortController()
      const entry = await this.#editor.read('> ')
      if (entry === 'end') break
      if (entry === 'interrupt') {
        if (isSecond) return AFTER_INTERRUPT
        this.#note('Ctrl-C again ends the chat; so does Ctrl-D, or /quit')
      } else if (entry !== 'cleared' && !(await this.#take(entry.text))) break
      isSecond = entry === 'interrupt'
    }
    return 0
  }

  [Symbol.dispose](): void {
    this.#editor[Symbol.dispose]()
    this.#parts.signal.removeEventListener('abort', this.#onSignal)
  }

  readonly #onSignal = (): void => {
    this.#stop.abort()
    this.#editor.close()
  }

  /** A message or a command; false if the chat is to end. A failure changes nothing. */
  async #take(text: string): Promise<boolean> {
    const parsed = parseEntry(text)
    if (parsed === undefined) return true
    const { conversation, terminal } = this.#parts
    const { messages } = conversation
    try {
      if ('message' in parsed) conversation.add({ role: 'user', content: parsed.message })
      else {
        const { say, next } = await runCommand(this.#parts, parsed.command, parsed.argument)
        if (say !== undefined) await terminal.write(`${say}\n`)
        if (next !== 'answer') return next !== 'quit'
      }
      return await this.#answer()
    } catch (error) {
      conversation.messages = messages
      await this.#fail(error)
      return true
    }
  }

  async #fail(error: unknown): Promise<void> {
    await this.#parts.terminal.flush()
    const isFull = error instanceof MoeppError && error.code === 'ERR_BAD_PROMPT'
    this.#parts.terminal.error(describe(error) + (isFull ? `. ${MORE_CONTEXT}` : ''))
  }

  /** The model's answer, and the one after each result of a tool. False if the chat is to end. */
  async #answer(): Promise<boolean> {
    for (;;) {
      const result = await this.#generate()
      const { message, finishReason, usage } = result
      if (finishReason === 'abort' && usage.generatedTokens === 0)
        throw new Error('stopped before the answer began: the message is taken back')
      this.#parts.conversation.addAnswer(result)
      if (finishReason === 'abort') this.#note('stopped')
      if (finishReason === 'length') this.#note(`cut: ${this.#limit(usage.generatedTokens)}`)
      const calls = finishReason === 'abort' ? [] : (message.toolCalls ?? [])
      const next = await this.#results(calls)
      if (next !== 'answer') return next !== 'end'
    }
  }

  #limit(generated: number): string {
    const { conversation, check } = this.#parts
    const { maxNewTokens } = checkSettings(conversation.settings, check)
    return generated === maxNewTokens
      ? `maxNewTokens is ${maxNewTokens}`
      : `the context is full. ${MORE_CONTEXT}`
  }

  async #generate(): Promise<ChatResult> {
    const { conversation, model, terminal } = this.#parts
    const screen = new ChatScreen(terminal)
    try {
      const stream = model.streamChat(conversation.prompt, {
        ...conversation.options,
        signal: this.#stop.signal,
      })
      for await (const chunk of stream) await screen.show(chunk)
      const result = await stream.result
      await screen.end()
      await terminal.flush()
      if (result.usage.generatedTokens > 0) terminal.figures(figuresLine([result], model.config))
      return result
    } finally {
      await screen.end()
    }
  }

  /** Asks for the results of calls. With one or more the model goes on. */
  async #results(calls: readonly ToolCall[]): Promise<'answer' | 'person' | 'end'> {
    let next: 'answer' | 'person' = 'person'
    for (const { name, id, invalid } of calls) {
      if (invalid !== undefined) continue
      const result = await this.#result(name)
      if (result === 'end') return 'end'
      if (result === 'interrupt') return 'person'
      if (result === 'skip') continue
      next = 'answer'
      const content = result.text
      this.#parts.conversation.add({ role: 'tool', content, name, ...(id && { toolCallId: id }) })
    }
    return next
  }

  async #result(name: string): Promise<{ readonly text: string } | 'skip' | 'interrupt' | 'end'> {
    for (;;) {
      const entry = await this.#editor.read(`tool ${visible(printable(name))}> `)
      if (entry === 'end' || entry === 'interrupt') return entry
      if (entry === 'cleared') continue
      const parsed = parseEntry(entry.text)
      if (parsed === undefined || 'message' in parsed) return { text: parsed?.message ?? '' }
      if (parsed.command === 'skip') return 'skip'
      if (parsed.command === 'quit') return 'end'
      this.#parts.terminal.error("expected the tool's result, /skip or /quit")
    }
  }

  #note(text: string): void {
    this.#parts.terminal.note(text)
  }
}
