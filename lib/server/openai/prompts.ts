/** The prompts of a completion: texts, ids, or lists of either. */
import { show } from '../../base/json.js'
import type { Model } from '../../generation/model.js'
import { checkTokenIds } from '../../generation/prompt.js'
import type { GenerateContext } from '../../options/generate.js'
import { badField, promptTooLong } from '../errors.js'

export type PromptField = readonly (string | readonly number[])[]

export interface EncodedPrompt {
  readonly ids: readonly number[]
  /** Of a prompt that is a text. */
  readonly given: string | undefined
}

/** Counting the tokens of a prompt that is too long ends at so many contexts. */
const COUNTED_CONTEXTS = 4

/** The check of the field: always a list. */
export function promptField(value: unknown, name: string, context: GenerateContext): PromptField {
  const isList = Array.isArray(value) && typeof value[0] !== 'number'
  if (!isList) return [onePrompt(value, name, context)]
  if (value.length === 0) throw badField(name, 'expected a text, ids, or a list of either, got []')
  return value.map((each, i) => onePrompt(each, `${name}[${i}]`, context))
}

function onePrompt(value: unknown, name: string, { vocabSize }: GenerateContext) {
  if (typeof value === 'string') return value
  if (!Array.isArray(value))
    throw badField(name, `expected a text or a list of token ids, got ${show(value)}`)
  return checkTokenIds(value, name, vocabSize)
}

export interface EncodeHow {
  readonly addSpecialTokens: boolean
  /** Tokens of the context that must be left free. */
  readonly room: number
  readonly signal: AbortSignal
}

/** @throws RequestError 400 if one is empty or too long; MoeppError ERR_ABORTED */
export async function encodePrompts(
  prompts: PromptField,
  { tokenizer, contextLength }: Model,
  { addSpecialTokens, room, signal }: EncodeHow,
): Promise<EncodedPrompt[]> {
  const encoded: EncodedPrompt[] = []
  for (const [i, prompt] of prompts.entries()) {
    const name = prompts.length > 1 ? `prompt[${i}]` : 'prompt'
    const maxTokens = COUNTED_CONTEXTS * contextLength
    const ids =
      typeof prompt === 'string'
        ? await tokenizer.encodeAsync(prompt, { addSpecialTokens, maxTokens })
        : prompt
    signal.throwIfAborted()
    if (ids.length === 0) throw badField(name, 'expected at least one token, got none')
    if (ids.length + room > contextLength) {
      const message = `${name}: has ${ids.length} tokens${room > 0 ? ', and needs one for the text' : ''}`
      throw promptTooLong(message, { got: ids.length, most: contextLength })
    }
    encoded.push({ ids, given: typeof prompt === 'string' ? prompt : undefined })
  }
  return encoded
}
