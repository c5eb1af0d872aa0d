/** The forms of a grammar, each as XGrammar takes it. */
import { isObject, show } from '../base/json.js'
import { ebnfOf } from './ebnf.js'
import { parseEbnf } from './ebnf-parser.js'
import { Rules } from './expression.js'
import { schemaGrammar } from './json-schema.js'
import { badGrammar, PLAIN, wholeMatch } from './regex.js'
import { spelledText } from './spelling.js'

/** One of these keys. */
export type GrammarSource =
  | { readonly jsonSchema: unknown }
  | { readonly regex: string }
  | { readonly ebnf: string }
  /** XGrammar's format objects: for the forms of tool calls, never from a caller. */
  | { readonly structuralTag: unknown }

/** Spelled: see spelling.ts. */
export type GrammarText = { readonly ebnf: string } | { readonly structuralTag: object }

/** @throws MoeppError ERR_BAD_GRAMMAR */
export function grammarText(source: GrammarSource): GrammarText {
  if ('jsonSchema' in source) return { ebnf: ebnfOfSchema(source.jsonSchema, 'grammar.jsonSchema') }
  if ('regex' in source) return { ebnf: ebnfOfRegex(source.regex, 'grammar.regex') }
  if ('ebnf' in source) return { ebnf: ebnfOfEbnf(source.ebnf, 'grammar.ebnf') }
  const format = formatOf(source.structuralTag, 'grammar.structuralTag')
  return { structuralTag: { type: 'structural_tag', format } }
}

function ebnfOfSchema(schema: unknown, place: string): string {
  return ebnfOf(schemaGrammar(schema, place), place)
}

function ebnfOfRegex(pattern: string, place: string): string {
  return ebnfOf({ root: wholeMatch(pattern, place, PLAIN), rules: new Rules() }, place)
}

function ebnfOfEbnf(source: string, place: string): string {
  return ebnfOf(parseEbnf(source, place), place)
}

/** Each schema and pattern of a format as a grammar of ours, and its texts spelled. */
function formatOf(format: unknown, place: string): object {
  if (!isObject(format)) throw badGrammar(place, `expected a format, got ${show(format)}`)
  const { type } = format
  if (type === 'json_schema')
    return { type: 'grammar', grammar: ebnfOfSchema(format.json_schema, `${place}.json_schema`) }
  if (type === 'regex')
    return { type: 'grammar', grammar: ebnfOfRegex(String(format.pattern), `${place}.pattern`) }
  if (type === 'grammar')
    return { type: 'grammar', grammar: ebnfOfEbnf(String(format.grammar), `${place}.grammar`) }
  const entries = Object.entries(format).map(([key, value]) => [key, partOf(key, value, place)])
  return Object.fromEntries(entries)
}

function partOf(key: string, value: unknown, place: string): unknown {
  if (key === 'content') return formatOf(value, `${place}.content`)
  if (key === 'type' || typeof value === 'boolean') return value
  if (typeof value === 'string') return spelledText(value)
  if (!Array.isArray(value)) throw badGrammar(`${place}.${key}`, 'expected a text or a list')
  return value.map((each, i) =>
    typeof each === 'string' ? spelledText(each) : formatOf(each, `${place}.${key}[${i}]`),
  )
}
