/** The option `grammar`. */
import { isObject, show } from '../base/json.js'
import { MoeppError } from '../errors.js'
import type { GrammarSource } from '../grammar/grammar-text.js'

/**
 * The form of a text, in one of three languages. A grammar that is malformed, allows no text, or
 * asks for what is not supported is ERR_BAD_GRAMMAR, and the message names the place.
 *
 * - `jsonSchema`: draft 2020-12. The text is JSON that is valid by it. Keys come in the schema's
 *   order; without `additionalProperties` there are no others. There is no whitespace but one
 *   optional space behind each comma and colon. Numbers have at most 15 digits before the point.
 *   `not`, `if`, `contains`, `uniqueItems`, `multipleOf` and references to other documents are
 *   refused, and so is every other keyword that could not be kept.
 * - `regex`: JavaScript's syntax with the flag `u`, for the whole text. Lookarounds, `\\b` and
 *   backreferences are refused.
 * - `ebnf`: rules as `root ::= "yes" | "no"`, in XGrammar's syntax; `root` is the whole text.
 *
 * A grammar is compiled once, in a thread of its own, and kept for later calls. That takes a
 * second or so with a vocabulary of 150,000 tokens.
 *
 * @example
 * ```ts
 * import { type Grammar, loadModel } from 'moepp'
 *
 * const grammar: Grammar = {
 *   jsonSchema: {
 *     type: 'object',
 *     properties: { name: { type: 'string', maxLength: 20 }, age: { type: 'integer' } },
 *     required: ['name', 'age'],
 *   },
 * }
 * const model = await loadModel('npm:moepp-books-7m')
 * const { text } = await model.generate('The old man: ', { grammar, maxNewTokens: 60 })
 * console.log(text)
 * ```
 */
export type Grammar =
  | { readonly jsonSchema: object | boolean }
  | { readonly regex: string }
  | { readonly ebnf: string }

/** Characters of a grammar as JSON: compiling takes time and memory with its length. */
const MOST_CHARACTERS = 256 * 1024

const KINDS = ['jsonSchema', 'regex', 'ebnf', 'structuralTag']

/** A copy, so that a later change of the caller's object changes nothing. */
export function grammar(value: unknown, name: string): GrammarSource {
  const keys = isObject(value) ? Object.keys(value) : []
  const [kind] = keys
  if (keys.length !== 1 || !KINDS.includes(kind!)) {
    throw new TypeError(
      `${name}: expected an object with one of jsonSchema, regex, ebnf, got ${isObject(value) ? show(keys) : show(value)}`,
    )
  }
  const given = (value as Record<string, unknown>)[kind!]
  const isText = kind === 'regex' || kind === 'ebnf'
  if (isText && typeof given !== 'string')
    throw new TypeError(`${name}.${kind}: expected a string, got ${show(given)}`)
  if (!isText && !isObject(given) && typeof given !== 'boolean')
    throw new TypeError(`${name}.${kind}: expected an object, got ${show(given)}`)
  const copy = jsonCopy(given, `${name}.${kind}`)
  return { [kind!]: copy } as unknown as GrammarSource
}

function jsonCopy(value: unknown, name: string): unknown {
  let text: string
  try {
    text = JSON.stringify(value)
  } catch (cause) {
    const reason = (cause as Error).message
    throw new MoeppError('ERR_BAD_GRAMMAR', `${name}: expected JSON: ${reason}`, { cause })
  }
  if (text.length > MOST_CHARACTERS) {
    throw new MoeppError(
      'ERR_BAD_GRAMMAR',
      `${name}: has ${text.length} characters as JSON, expected at most ${MOST_CHARACTERS}`,
    )
  }
  return JSON.parse(text)
}
