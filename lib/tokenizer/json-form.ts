/** The form of a Hugging Face tokenizer.json, and the error of a file that is not so. */

import { isObject, show } from '../base/json.js'
import { MoeppError } from '../errors.js'

export interface AddedTokenJson {
  readonly id: number
  readonly content: string
  readonly single_word?: boolean
  readonly lstrip?: boolean
  readonly rstrip?: boolean
  readonly normalized?: boolean
  readonly special?: boolean
}

export type StepJson = { readonly type: string } & Readonly<Record<string, unknown>>

export interface BpeJson {
  readonly type: 'BPE'
  readonly vocab: Readonly<Record<string, number>>
  readonly merges: readonly (string | readonly string[])[]
  readonly unk_token?: string | null
  readonly byte_fallback?: boolean
  readonly [key: string]: unknown
}

export interface TokenizerJson {
  readonly added_tokens: readonly AddedTokenJson[]
  readonly normalizer: StepJson | null
  readonly pre_tokenizer: StepJson | null
  readonly post_processor: StepJson | null
  readonly decoder: StepJson | null
  readonly model: BpeJson
  readonly [key: string]: unknown
}

export function badTokenizer(
  file: string,
  where: string,
  expected: string,
  got: unknown,
): MoeppError {
  return new MoeppError(
    'ERR_BAD_TOKENIZER',
    `${file}: ${where} is ${show(got)}, expected ${expected}`,
  )
}

export function checkStep(step: unknown, where: string, file: string): StepJson | null {
  if (step === undefined || step === null) return null
  if (!isObject(step) || typeof step.type !== 'string') {
    throw badTokenizer(file, where, 'null or an object with a type', step)
  }
  return step as StepJson
}

/** The steps of a Sequence, or the one step. */
export function stepsOf(step: StepJson | null, key: string, file: string): StepJson[] {
  if (step === null) return []
  if (step.type !== 'Sequence') return [step]
  const steps = step[key]
  if (!Array.isArray(steps)) throw badTokenizer(file, key, 'an array', steps)
  return steps.map((inner, i) => {
    const checked = checkStep(inner, `${key}[${i}]`, file)
    if (checked === null) throw badTokenizer(file, `${key}[${i}]`, 'an object', inner)
    return checked
  })
}
