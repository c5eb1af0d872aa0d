/** From what a caller passes as a prompt to checked token ids. */
import { MoeppError } from '../errors.js'
import type { Part } from '../tokenizer/added-tokens.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'

/**
 * Token ids of the model's vocabulary, integers from 0 to vocabSize - 1.
 *
 * @example
 * ```ts
 * import { loadModel, type TokenIds } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const tokens: TokenIds = Int32Array.from(model.tokenizer.encode('The old man'))
 * console.log((await model.generate(tokens, { maxNewTokens: 8 })).text)
 * ```
 */
export type TokenIds = readonly number[] | Int32Array

/**
 * A text to continue, or its token ids, which are taken as they are.
 *
 * @example
 * ```ts
 * import { loadModel, type Prompt } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const prompts: Prompt[] = ['The old man', model.tokenizer.encode('The sea')]
 * for (const { text } of await model.generate(prompts, { maxNewTokens: 8 })) console.log(text)
 * ```
 */
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
  /** True if the caller passed several, and so gets an array. */
  readonly isBatch: boolean
  /** Name of the i-th prompt in errors. */
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

/** A text that may fit, or checked token ids that do. */
export type CheckedPrompt = string | number[]

/**
 * Refuses at once all that needs no encoding: wrong arguments, and what cannot fit.
 * @throws TypeError, RangeError; MoeppError ERR_BAD_PROMPT, ERR_BAD_TOKENIZER
 */
export function checkPrompt(prompt: unknown, name: string, context: PromptContext): CheckedPrompt {
  // Though the tokenizer may make it a begin token: who passes no text has most likely lost it.
  if (prompt === '') throw emptyPrompt(name)
  if (typeof prompt === 'string') {
    checkCharacters(prompt, name, context, context.maxTokens)
    return prompt
  }
  // Before the ids are looked at, which takes its time.
  if (Array.isArray(prompt)) checkLength(prompt.length, name, context)
  const ids = checkTokenIds(prompt, name, context.vocabSize)
  if (ids.length === 0) throw emptyPrompt(name)
  checkLength(ids.length, name, context)
  return ids
}

export interface EncodeHow {
  readonly addSpecialTokens?: boolean | undefined
  readonly splitSpecialTokens?: boolean | undefined
  readonly signal?: AbortSignal | undefined
}

/** Token ids of a prompt to go on from. None if the signal aborts before they are known. */
export async function promptIds(
  prompt: CheckedPrompt,
  name: string,
  context: PromptContext,
  how: EncodeHow,
): Promise<number[]> {
  if (typeof prompt !== 'string') return prompt
  return idsUnlessAborted(encode(prompt, name, context, how), name)
}

/** promptIds of a text in parts: see `Tokenizer.encodeParts`. */
export function promptIdsOfParts(
  parts: readonly Part[],
  name: string,
  context: PromptContext,
  signal: AbortSignal | undefined,
): Promise<number[]> {
  const lengths = parts.map(part => (typeof part === 'string' ? part.length : 1))
  const length = lengths.reduce((sum, each) => sum + each, 0)
  const { maxTokens } = context
  const tokenizer = checkCharacters({ length }, name, context, maxTokens)
  const how = { maxTokens: counted(maxTokens), ...(signal && { signal }) }
  const ids = tokenizer.encodeParts(parts, how)
  return idsUnlessAborted(atMost(maxTokens, ids, name, context), name)
}

async function idsUnlessAborted(encoded: Promise<number[]>, name: string): Promise<number[]> {
  try {
    const ids = await encoded
    if (ids.length === 0) throw emptyPrompt(name)
    return ids
  } catch (error) {
    if (error instanceof MoeppError && error.code === 'ERR_ABORTED') return []
    throw error
  }
}

/**
 * Token ids of a text, which are at most `maxTokens`. Other events run while it is encoded.
 * @throws MoeppError ERR_BAD_PROMPT, ERR_BAD_TOKENIZER; ERR_ABORTED if the signal aborts
 */
export async function encode(
  text: string,
  name: string,
  context: PromptContext,
  { addSpecialTokens, splitSpecialTokens, signal }: EncodeHow,
  maxTokens = context.maxTokens,
): Promise<number[]> {
  const tokenizer = checkCharacters(text, name, context, maxTokens)
  const ids = tokenizer.encodeAsync(text, {
    maxTokens: counted(maxTokens),
    ...(addSpecialTokens !== undefined && { addSpecialTokens }),
    ...(splitSpecialTokens !== undefined && { splitSpecialTokens }),
    ...(signal && { signal }),
  })
  return atMost(maxTokens, ids, name, context)
}

/**
 * Tokens up to which a text is encoded: more than fit, so that an error can say how many there are.
 */
function counted(maxTokens: number): number {
  return Math.min(4 * maxTokens, Number.MAX_SAFE_INTEGER)
}

async function atMost(
  maxTokens: number,
  encoded: Promise<number[]>,
  name: string,
  context: PromptContext,
): Promise<number[]> {
  const ids = await encoded
  const got = ids.length
  if (got <= maxTokens) return ids
  const count = got > counted(maxTokens) ? `at least ${got}` : got
  throw tooLong(`${name}: has ${count} tokens, but ${limitOf(context)}`, { got, most: maxTokens })
}

/** Refuses a text of more characters than `maxTokens` tokens can stand for. */
function checkCharacters(
  { length }: { readonly length: number },
  name: string,
  context: PromptContext,
  maxTokens: number,
): Tokenizer {
  const { tokenizer } = context
  if (!tokenizer) throw noTokenizer('a text')
  const { maxTokenLength } = tokenizer
  const most = maxTokens * maxTokenLength
  if (length <= most) return tokenizer
  throw tooLong(
    `${name}: has ${length} characters, expected at most ${most}: ${limitOf(context)} tokens`,
    { got: Math.ceil(length / maxTokenLength), most: maxTokens },
  )
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
  const { maxTokens: most } = context
  if (tokens <= most) return
  throw tooLong(`${name}: has ${tokens} tokens, but ${limitOf(context)}`, { got: tokens, most })
}

function tooLong(message: string, tokens: { got: number; most: number }): MoeppError {
  return new MoeppError('ERR_BAD_PROMPT', message, { tokens })
}

function limitOf({ contextLength, maxTokens }: PromptContext): string {
  return maxTokens < contextLength
    ? `the KV cache holds ${maxTokens}`
    : `the context holds ${contextLength}`
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
