/** A model whose answers to chats are known beforehand. */
import type { ChatOptions, LogitsHook, Model } from '../../lib/index.js'

export interface Dictation {
  /** The model, but for its answers. */
  readonly model: Model
  /** The text that it says next, and ends; it speaks freely if it is undefined. */
  says: string | undefined
}

export function dictated(real: Model): Dictation {
  const dictation: Dictation = { model: new Proxy(real, { get }), says: undefined }
  return dictation

  function get(target: Model, name: string | symbol): unknown {
    const { says } = dictation
    if (name === 'streamChat' && says !== undefined)
      return (messages: never, options: ChatOptions) =>
        target.streamChat(messages, { ...options, logits: dictate(says, real) })
    const value = Reflect.get(target, name, target)
    return typeof value === 'function' ? value.bind(target) : value
  }
}

function dictate(text: string, { tokenizer }: Model): LogitsHook {
  const ids = tokenizer.encode(`${text}<|im_end|>`, { addSpecialTokens: false })
  let at = 0
  return logits => {
    const id = ids[at++]!
    logits.fill(-Infinity)
    logits[id] = 0
  }
}
