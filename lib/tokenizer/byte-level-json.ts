/**
 * The byte-level form of a tokenizer.json, as GPT-2, Llama 3 and Qwen have it. The words' pattern
 * is one of a few, and all bytes are tokens.
 */

import { isObject, show } from '../base/json.js'
import { BYTE_LETTERS } from './byte-letters.js'
import { badTokenizer, type StepJson, stepsOf, type TokenizerJson } from './json-form.js'
import { BYTE_LEVEL_RULE, WORD_RULES, type WordRule } from './words.js'

export interface ByteLevelForm {
  /** None: the text between two added tokens is one word. */
  readonly rule: WordRule | undefined
  /** A text without a space in front gets one. */
  readonly addPrefixSpace: boolean
}

export function isByteLevel({ pre_tokenizer, decoder }: TokenizerJson, file: string): boolean {
  const steps = [
    ...stepsOf(pre_tokenizer, 'pretokenizers', file),
    ...stepsOf(decoder, 'decoders', file),
  ]
  return steps.some(({ type }) => type === 'ByteLevel')
}

/** Throws unless the file is run exactly. */
export function checkByteLevel(json: TokenizerJson, file: string): void {
  const decoders = stepsOf(json.decoder, 'decoders', file).map(({ type }) => type)
  // Its text is whole, so that Fuse changes nothing.
  if (!/^ByteLevel( Fuse)?$/.test(decoders.join(' ')))
    throw badTokenizer(file, 'decoder', "'ByteLevel', as pre_tokenizer is", decoders.join(' '))
  byteLevelForm(json, file)
  const { vocab, sentencepiece } = json.model
  if (sentencepiece !== undefined)
    throw badTokenizer(file, 'model.sentencepiece', 'absent', sentencepiece)
  const missing = BYTE_LETTERS.findIndex(letter => !Object.hasOwn(vocab, letter))
  if (missing !== -1) {
    const where = `model.vocab[${show(BYTE_LETTERS[missing])}]`
    throw badTokenizer(file, where, `the token of the byte ${missing}`, undefined)
  }
}

export function byteLevelForm(json: TokenizerJson, file: string): ByteLevelForm {
  const steps = stepsOf(json.pre_tokenizer, 'pretokenizers', file)
  const types = steps.map(({ type }) => type).join(' ')
  if (!/^(Split )?ByteLevel$/.test(types)) {
    const expected = "'ByteLevel', alone or behind one 'Split'"
    throw badTokenizer(file, 'pre_tokenizer', expected, types)
  }
  const last = steps.at(-1)!
  const { add_prefix_space: prefix = false, use_regex: own = true } = last
  if (typeof prefix !== 'boolean')
    throw badTokenizer(file, 'pre_tokenizer.add_prefix_space', 'a boolean', prefix)
  if (typeof own !== 'boolean')
    throw badTokenizer(file, 'pre_tokenizer.use_regex', 'a boolean', own)
  if (steps.length === 1) return { rule: own ? BYTE_LEVEL_RULE : undefined, addPrefixSpace: prefix }
  // Each word would get a space, or be cut again.
  if (prefix) throw badTokenizer(file, 'pre_tokenizer.add_prefix_space', 'false', prefix)
  if (own) throw badTokenizer(file, 'pre_tokenizer.use_regex', 'false', own)
  return { rule: splitRule(steps[0]!, file), addPrefixSpace: false }
}

function splitRule({ pattern, behavior, invert = false }: StepJson, file: string): WordRule {
  const regex = isObject(pattern) ? pattern.Regex : undefined
  const rule = typeof regex === 'string' ? WORD_RULES.get(regex) : undefined
  if (rule === undefined) {
    const known = [...WORD_RULES.keys()].join('  ')
    throw badTokenizer(file, 'the Regex of Split', `one of ${known}`, regex ?? pattern)
  }
  // The patterns leave no character out. So to remove what lies between their matches is the same.
  const isKept = invert === false && behavior === 'Isolated'
  const isInverted = invert === true && behavior === 'Removed'
  if (!isKept && !isInverted) {
    const expected = "['Isolated', false] or ['Removed', true]"
    throw badTokenizer(file, 'behavior and invert of Split', expected, [behavior, invert])
  }
  return rule
}
