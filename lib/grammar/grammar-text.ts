/** The forms of a grammar, each as XGrammar takes it. */
import { isObject, show } from '../base/json.js'
import { ebnfOf, type Printed } from './ebnf.js'
import { parseEbnf } from './ebnf-parser.js'
import { badGrammar } from './errors.js'
import { Rules } from './expression.js'
import { schemaGrammar } from './json-schema.js'
import { PLAIN, wholeMatch } from './regex.js'
import { spelledText } from './spelling.js'

/** One of these keys. */
export type GrammarSource =
  | { readonly jsonSchema: unknown }
  | { readonly regex: string }
  | { readonly ebnf: string }
  /** XGrammar's format objects: for the forms of tool calls, never from a caller. */
  | { readonly structuralTag: unknown }

/** Spelled: see spelling.ts. */
export type GrammarText = Printed | TagText

interface TagText extends Omit<Printed, 'ebnf'> {
  readonly structuralTag: object
}

/** @throws MoeppError ERR_BAD_GRAMMAR */
export function grammarText(source: GrammarSource): GrammarText {
  if ('jsonSchema' in source) return ofSchema(source.jsonSchema, 'grammar.jsonSchema')
  if ('regex' in source) return ofRegex(source.regex, 'grammar.regex')
  if ('ebnf' in source) return ofEbnf(source.ebnf, 'grammar.ebnf')
  const limits: number[] = []
  const format = formatOf(source.structuralTag, 'grammar.structuralTag', limits)
  return { structuralTag: { type: 'structural_tag', format }, limits }
}

function ofSchema(schema: unknown, place: string): Printed {
  return ebnfOf(schemaGrammar(schema, place), place)
}

function ofRegex(pattern: string, place: string): Printed {
  return ebnfOf({ root: wholeMatch(pattern, place, PLAIN), rules: new Rules() }, place)
}

function ofEbnf(source: string, place: string): Printed {
  return ebnfOf(parseEbnf(source, place), place)
}

/** Each schema and pattern of a format as a grammar of ours, and its texts spelled. */
function formatOf(format: unknown, place: string, limits: number[]): object {
  if (!isObject(format)) throw badGrammar(place, `expected a format, got ${show(format)}`)
  const { type } = format
  const inner = (printed: Printed) => {
    limits.push(...printed.limits)
    return { type: 'grammar', grammar: printed.ebnf }
  }
  // Errors name the place that the caller knows.
  const at = typeof format.place === 'string' ? format.place : place
  if (type === 'json_schema') return inner(ofSchema(format.json_schema, at))
  if (type === 'regex') return inner(ofRegex(String(format.pattern), at))
  if (type === 'grammar') return inner(ofEbnf(String(format.grammar), at))
  const part = ([key, value]: [string, unknown]) => [key, partOf(key, value, place, limits)]
  return Object.fromEntries(Object.entries(format).map(part))
}

function partOf(key: string, value: unknown, place: string, limits: number[]): unknown {
  if (key === 'content') return formatOf(value, `${place}.content`, limits)
  if (key === 'type' || typeof value === 'boolean') return value
  if (typeof value === 'string') return spelledText(value)
  if (!Array.isArray(value)) throw badGrammar(`${place}.${key}`, 'expected a text or a list')
  return value.map((each, i) =>
    typeof each === 'string' ? spelledText(each) : formatOf(each, `${place}.${key}[${i}]`, limits),
  )
}
