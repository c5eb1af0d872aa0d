/** From what a caller passes as a prompt to checked token ids. */
import { MoeppError } from '../errors.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'

/** Token ids of the model's vocabulary, integers from 0 to vocabSize - 1. */
export type TokenIds = readonly number[] | Int32Array

/** What to continue: a text, or token ids, which are taken as they are. */
export type Prompt = string | TokenIds

export interface PromptContext {
  readonly tokenizer: Tokenizer | undefined
  readonly vocabSize: number
  /** Tokens that a sequence may hold. */
  readonly contextLength: number
  /** Of these, tokens that the KV cache has room for. */
  readonly maxTokens: number
}

export interface Prompts {
  readonly prompts: readonly unknown[]
  /** Whether the caller passed several, and so gets an array. */
  readonly isBatch: boolean
  /** What the i-th is called in errors. */
  name(i: number): string
}

/**
 * Tells one prompt from several: an array of texts or of arrays is a batch, an array of numbers is
 * one prompt.
 */
export function splitBatch(value: unknown, name: string): Prompts {
  const isBatch = Array.isArray(value) && value.length > 0 && typeof value[0] !== 'number'
  if (!isBatch) return { prompts: [value], isBatch, name: () => name }
  return { prompts: value, isBatch, name: i => `${name}[${i}]` }
}

/** Token ids of a prompt to go on from. */
export function promptIds(
  prompt: unknown,
  name: string,
  context: PromptContext,
  addSpecialTokens: boolean | undefined,
): number[] {
  // Though the tokenizer may make it a begin token: who passes no text has most likely lost it.
  if (prompt === '') throw emptyPrompt(name)
  const ids =
    typeof prompt === 'string'
      ? encode(prompt, context.tokenizer, addSpecialTokens)
      : checkTokenIds(prompt, name, context.vocabSize)
  if (ids.length === 0) throw emptyPrompt(name)
  checkLength(ids.length, name, context)
  return ids
}

export function encode(
  text: string,
  tokenizer: Tokenizer | undefined,
  addSpecialTokens?: boolean | undefined,
): number[] {
  if (!tokenizer) throw noTokenizer('a text')
  return tokenizer.encode(text, addSpecialTokens === undefined ? {} : { addSpecialTokens })
}

export function checkTokenIds(ids: unknown, name: string, vocabSize: number): number[] {
  if (!Array.isArray(ids) && !(ids instanceof Int32Array)) {
    throw new TypeError(`${name}: expected a text or an array of token ids, got ${typeOf(ids)}`)
  }
  return Array.from(ids as ArrayLike<unknown>, (id, i) => {
    if (typeof id !== 'number') {
      throw new TypeError(`${name}[${i}]: expected a token id, got ${typeOf(id)}`)
    }
    if (!Number.isInteger(id) || id < 0 || id >= vocabSize) {
      throw new RangeError(
        `${name}[${i}]: expected a token id from 0 to ${vocabSize - 1}, got ${id}`,
      )
    }
    return id
  })
}

export function checkLength(tokens: number, name: string, context: PromptContext): void {
  const { contextLength, maxTokens } = context
  if (tokens <= maxTokens) return
  const limit =
    maxTokens < contextLength
      ? `the KV cache holds ${maxTokens}`
      : `the context holds ${contextLength}`
  throw new MoeppError('ERR_BAD_PROMPT', `${name}: has ${tokens} tokens, but ${limit}`)
}

export function emptyPrompt(name: string): MoeppError {
  return new MoeppError('ERR_BAD_PROMPT', `${name}: expected at least one token, got none`)
}

export function noTokenizer(what: string): MoeppError {
  return new MoeppError(
    'ERR_BAD_TOKENIZER',
    `the checkpoint has no tokenizer, which ${what} needs: pass token ids`,
  )
}

function typeOf(value: unknown): string {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'an array' : typeof value
}
