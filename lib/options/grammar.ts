/** The option `grammar`. */
import { isObject, show } from '../base/json.js'
import { badGrammar } from '../grammar/errors.js'
import type { GrammarSource } from '../grammar/grammar-text.js'

/**
 * The form of a text, in one of three languages. A grammar that is malformed, allows no text, or
 * asks for something that is not supported is ERR_BAD_GRAMMAR, and the message names the place.
 *
 * - `jsonSchema`: draft 2020-12. The text is JSON that is valid by the schema, in one line: one
 *   space may follow a comma or a colon. Keys come in the schema's order. Without
 *   `additionalProperties` an object has no others, and an array with `prefixItems` has all of
 *   those. Numbers have at most 15 digits before the point. Each `format` allows its usual forms:
 *   date, time, date-time, uuid, ipv4, ipv6, hostname, email, uri. A keyword that could not be kept
 *   is refused: `not`, `if`, `contains`, `uniqueItems`, `multipleOf`, and unknown ones but `x-...`.
 *   So are references to other documents, `allOf` of several, and `oneOf` of schemas that overlap.
 * - `regex`: JavaScript's syntax with the flag `u`. The whole text matches. Lookarounds, `\b`,
 *   backreferences, and anchors inside of the pattern are refused.
 * - `ebnf`: rules such as `root ::= "yes" | "no" [!]*`, with `root` for the whole text. There are
 *   texts, classes, groups, `|`, `?`, `*`, `+`, `{n,m}` and comments behind `#`.
 *
 * Penalties, `logitBias` and the option `logits` come before the grammar. If they ban every token
 * that it allows, the call rejects with a RangeError. Tokens that end the text may come where the
 * grammar may end. `minNewTokens` holds them back, unless nothing else may follow. If no token ends
 * the text, as with `ignoreEos`, it ends where nothing may follow. With `logprobs`, the
 * probabilities are still those of the model alone.
 *
 * A grammar is compiled once, in a thread of its own, and kept for later calls: the last few of a
 * model. That takes 0.1 s, and half a second with a vocabulary of 150,000 tokens. The tokens that
 * may follow are found while the model computes.
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
  | {
      /** A JSON Schema. The text is JSON that is valid by it. */
      readonly jsonSchema: object | boolean
    }
  | {
      /** A regular expression. The text matches it as a whole. */
      readonly regex: string
    }
  | {
      /** Rules. The text is one of `root`. */
      readonly ebnf: string
    }

/** Characters of a grammar as JSON: compiling takes time and memory with its length. */
const MOST_CHARACTERS = 256 * 1024

const KINDS = ['jsonSchema', 'regex', 'ebnf']

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
  let text: string | undefined
  try {
    text = JSON.stringify(value)
  } catch (cause) {
    throw badGrammar(name, `expected JSON: ${(cause as Error).message}`, cause)
  }
  if (text === undefined) throw badGrammar(name, 'expected JSON, got an object that has none')
  if (text.length > MOST_CHARACTERS) {
    const problem = `has ${text.length} characters as JSON, expected at most ${MOST_CHARACTERS}`
    throw badGrammar(name, problem)
  }
  return JSON.parse(text)
}
