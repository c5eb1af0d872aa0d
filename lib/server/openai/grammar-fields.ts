/** The fields that ask for a form of the text: OpenAI's response_format, and those of vLLM. */
import { isObject, show } from '../../base/json.js'
import { boolean, oneOf, text } from '../../base/option-checks.js'
import type { Grammar } from '../../options/grammar.js'
import { badField } from '../errors.js'
import { checkNames, ignored, only } from './fields.js'

/** A grammar, and the field that it comes from, for errors. */
export interface PlacedGrammar {
  readonly place: string
  readonly grammar: Grammar
}

const ANY_OBJECT = { type: 'object', additionalProperties: true }

export const GRAMMAR_FIELDS = {
  response_format: responseFormat,
  structured_outputs: structuredOutputs,
  guided_json: json,
  guided_regex: regex,
  guided_grammar: ebnf,
  guided_choice: choice,
  guided_decoding_backend: ignored,
  guided_whitespace_pattern: only(null),
}

type GrammarFields = {
  readonly [K in keyof typeof GRAMMAR_FIELDS]?: PlacedGrammar | undefined
}

/** @throws RequestError 400 if there are several */
export function grammarOf(fields: GrammarFields): PlacedGrammar | undefined {
  const names = Object.keys(GRAMMAR_FIELDS) as (keyof GrammarFields)[]
  const [name, other] = names.filter(each => fields[each] !== undefined)
  if (other !== undefined) throw badField(other, `not allowed together with ${name}`)
  return name && fields[name]
}

function responseFormat(value: unknown, name: string): PlacedGrammar | undefined {
  if (!isObject(value)) throw badField(name, `expected an object, got ${show(value)}`)
  const type = oneOf('text', 'json_object', 'json_schema')(value.type, `${name}.type`)
  if (type === 'text') return undefined
  if (type === 'json_object') return { place: name, grammar: { jsonSchema: ANY_OBJECT } }
  const place = `${name}.json_schema`
  const { json_schema: given } = value
  if (!isObject(given)) throw badField(place, `expected an object, got ${show(given)}`)
  checkNames(given, ['name', 'description', 'schema', 'strict'], `${place}.`)
  text(given.name, `${place}.name`)
  // The text follows the schema whether strict is true or not.
  if ((given.strict ?? null) !== null) boolean(given.strict, `${place}.strict`)
  return json(given.schema ?? ANY_OBJECT, `${place}.schema`)
}

const STRUCTURES = { json, regex, grammar: ebnf, choice, json_object: anyObject }

function structuredOutputs(value: unknown, name: string): PlacedGrammar | undefined {
  if (!isObject(value)) throw badField(name, `expected an object, got ${show(value)}`)
  const given = Object.entries(value).filter(([, each]) => each !== null)
  checkNames(Object.fromEntries(given), Object.keys(STRUCTURES), `${name}.`)
  const [first, second] = given
  if (!first || second)
    throw badField(name, `expected one of ${Object.keys(STRUCTURES).join(', ')}`)
  const [kind, content] = first
  return STRUCTURES[kind as keyof typeof STRUCTURES](content, `${name}.${kind}`)
}

/** A schema, or one as text. */
function json(value: unknown, place: string): PlacedGrammar {
  const jsonSchema = typeof value === 'string' ? parsed(value, place) : value
  if (isObject(jsonSchema) || typeof jsonSchema === 'boolean')
    return { place, grammar: { jsonSchema } }
  throw badField(place, `expected a JSON schema, got ${show(value)}`)
}

function parsed(value: string, place: string): unknown {
  try {
    return JSON.parse(value)
  } catch (error) {
    throw badField(place, `expected a JSON schema: ${(error as Error).message}`)
  }
}

function anyObject(value: unknown, place: string): PlacedGrammar | undefined {
  return boolean(value, place) ? { place, grammar: { jsonSchema: ANY_OBJECT } } : undefined
}

function regex(value: unknown, place: string): PlacedGrammar {
  return { place, grammar: { regex: text(value, place) } }
}

function ebnf(value: unknown, place: string): PlacedGrammar {
  return { place, grammar: { ebnf: text(value, place) } }
}

function choice(value: unknown, place: string): PlacedGrammar {
  if (!Array.isArray(value) || value.length === 0)
    throw badField(place, `expected a list of texts, got ${show(value)}`)
  const texts = value.map((each, i) => text(each, `${place}[${i}]`))
  const escaped = texts.map(each => each.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'))
  return { place, grammar: { regex: `(?:${escaped.join('|')})` } }
}
