/** Messages of files and other programs, read with suspicion. */

import { messageCopies } from '../generation/chat.js'
import type { ChatMessage } from '../template/messages.js'

/**
 * The messages, if the model can take them. One that it cannot take would fail each later turn.
 * @throws TypeError or RangeError that names the place: `messages[2].role`
 */
export function checkMessages(messages: unknown, vocabSize: number): readonly ChatMessage[] {
  messageCopies(messages as readonly ChatMessage[], vocabSize)
  return messages as readonly ChatMessage[]
}

/**
 * A system message may be the first of the messages, as other programs write it.
 * @throws TypeError where `system` is another one
 */
export function splitSystem(system: string | undefined, messages: readonly ChatMessage[]) {
  const [first, ...rest] = messages
  if (first?.role !== 'system' || typeof first.content !== 'string') return { system, messages }
  if (system !== undefined)
    throw new TypeError('messages[0]: expected no second system message next to system')
  return { system: first.content, messages: rest }
}
