/** A conversation in the terminal: messages, a system message ahead of them, and settings. */

import type { ChatOptions } from '../chat/chat-options.js'
import { MoeppError } from '../errors.js'
import type { ChatResult } from '../generation/chat-results.js'
import type { ChatMessage } from '../template/messages.js'

/** Options of each answer. */
export type Settings = Readonly<Omit<ChatOptions, 'signal' | 'logits'>>

export class Conversation {
  system: string | undefined
  settings: Settings = {}
  /** Without the system message. */
  messages: readonly ChatMessage[] = []

  /** Of each answer. The figures include the share of FFN experts, which routing gives. */
  get options(): Settings {
    return { ...this.settings, routing: 'computed' }
  }

  /** As the model gets them. */
  get prompt(): readonly ChatMessage[] {
    if (this.system === undefined) return this.messages
    return [{ role: 'system', content: this.system }, ...this.messages]
  }

  add(message: ChatMessage): void {
    this.messages = [...this.messages, message]
  }

  /** @throws MoeppError ERR_BAD_PROMPT if the context had no room for an answer */
  addAnswer({ message, finishReason, usage }: ChatResult): void {
    if (finishReason === 'length' && usage.generatedTokens === 0)
      throw new MoeppError('ERR_BAD_PROMPT', 'the conversation fills the context')
    this.add(message)
  }

  /** Calls of the last answer that no tool's message follows. */
  get openCalls(): number {
    const asked = this.messages.findLastIndex(({ role }) => role !== 'tool')
    // The second is OpenAI's spelling, which may be anything here.
    const calls = this.messages[asked]?.toolCalls ?? this.messages[asked]?.tool_calls
    const count = Array.isArray(calls) ? calls.length : 0
    return Math.max(0, count - (this.messages.length - asked - 1))
  }

  /** True if the model's turn has come. */
  get awaitsAnswer(): boolean {
    const role = this.messages.at(-1)?.role
    return role === 'user' || (role === 'tool' && this.openCalls === 0)
  }
}
