/** Results of chats. */
import type { ChatMessage, ToolCall } from '../template/messages.js'
import type { GenerateChunk, GenerateResult } from './results.js'

/**
 * An answer of the model, to be appended to the conversation as it is.
 *
 * @example
 * ```ts
 * import type { AssistantMessage, ChatMessage } from 'moepp'
 *
 * const append = (conversation: ChatMessage[], message: AssistantMessage) => [
 *   ...conversation,
 *   message,
 * ]
 * console.log(append([], { role: 'assistant', content: 'Hello.', tokenIds: [] }).length)
 * ```
 */
export interface AssistantMessage extends ChatMessage {
  readonly role: 'assistant'
  /** The text but for thoughts and calls of tools. */
  readonly content: string
  /** Thoughts, if there are any. */
  readonly reasoning?: string
  /** Calls of tools, if there are any. One that cannot be made has `invalid`. */
  readonly toolCalls?: readonly ToolCall[]
  /**
   * The tokens of the message. With them the next turn finds all of its beginning in the KV cache.
   * A message without them is encoded from its text.
   */
  readonly tokenIds: readonly number[]
}

/**
 * Result of `Model.chat`.
 *
 * @example
 * ```ts
 * import type { ChatResult } from 'moepp'
 *
 * const show = ({ message, usage }: ChatResult) =>
 *   console.log(message.content, `${usage.cachedTokens} of ${usage.promptTokens} cached`)
 * console.log(typeof show)
 * ```
 */
export interface ChatResult extends GenerateResult {
  /** The answer. `text` has the same as one text, with its marks. */
  readonly message: AssistantMessage
}

/**
 * A piece of `Model.streamChat`. All pieces together have the parts of the result's message.
 *
 * @example
 * ```ts
 * import type { ChatChunk } from 'moepp'
 *
 * const show = ({ reasoning = '', content = '' }: ChatChunk) =>
 *   process.stdout.write(reasoning + content)
 * show({ content: 'Hello.', tokenIds: [] })
 * ```
 */
export interface ChatChunk extends Omit<GenerateChunk, 'text'> {
  /** New text of the thoughts. */
  readonly reasoning?: string
  /** New text of the content. */
  readonly content?: string
  /** Calls of tools that are complete now. */
  readonly toolCalls?: readonly ToolCall[]
}
