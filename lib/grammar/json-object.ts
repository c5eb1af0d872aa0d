/** Objects of JSON Schema. */
import { isObject, show } from '../base/json.js'
import {
  characters,
  complement,
  EMPTY,
  type Expression,
  either,
  intersection,
  optional,
  repeat,
  sequence,
  single,
  text,
} from './expression.js'
import type { SchemaGrammar } from './json-schema.js'
import { COLON, COMMA, countedItems, IN_STRING, quoted, UNESCAPED } from './json-text.js'
import { anyMatch } from './regex.js'
import { badPlace, integerAt, type Place, type Schema } from './schema-place.js'

interface Member {
  readonly expression: Expression
  readonly isRequired: boolean
}

/** Keys that the schema does not name. */
interface Others {
  readonly expression: Expression
  readonly least: number
  readonly most: number
}

/** Named keys come in their order, then the others. */
export function objectIn(schema: Schema, place: Place, grammar: SchemaGrammar): Expression {
  const properties = recordAt(schema, 'properties', place)
  const required = requiredOf(schema, place)
  const names = [...new Set([...Object.keys(properties), ...required])]
  const { additionalProperties: additional } = schema
  const members = names.map((name): Member => {
    const isNamed = Object.hasOwn(properties, name)
    const isAllowed = additional !== false && schema.patternProperties === undefined
    if (!isNamed && !isAllowed)
      throw badPlace(place, 'required', `${show(name)} is none of the properties`)
    const value = isNamed
      ? grammar.inside(properties[name], place.at('properties', name))
      : grammar.inside(additional ?? true, place.at('additionalProperties'))
    const key = text(JSON.stringify(name))
    const expression = grammar.rule(sequence(key, COLON, value), place)
    return { expression, isRequired: required.includes(name) }
  })
  const others = othersIn(schema, names, place, grammar)
  checkCounts(schema, members, others, place)
  const rule = (expression: Expression) => grammar.rule(expression, place)
  return rule(sequence(text('{'), membersFrom(members, others, rule), text('}')))
}

function recordAt(schema: Schema, key: string, place: Place): Readonly<Record<string, unknown>> {
  const value = schema[key] ?? {}
  if (isObject(value)) return value
  throw badPlace(place, key, `expected an object, got ${show(value)}`)
}

function requiredOf({ required = [] }: Schema, place: Place): readonly string[] {
  if (Array.isArray(required) && required.every(name => typeof name === 'string')) return required
  throw badPlace(place, 'required', `expected a list of names, got ${show(required)}`)
}

/**
 * The members with commas between them. Of each place there are two forms: with members before it,
 * and without.
 */
function membersFrom(
  members: readonly Member[],
  others: Others | undefined,
  rule: (expression: Expression) => Expression,
): Expression {
  const { first, behind } = others
    ? countedItems(others.expression, others.least, others.most)
    : { first: EMPTY, behind: EMPTY }
  let begin = first
  let after = behind
  for (const { expression, isRequired } of members.toReversed()) {
    const next = after
    const member = sequence(COMMA, expression)
    begin = isRequired ? sequence(expression, next) : either(sequence(expression, next), begin)
    after = rule(sequence(isRequired ? member : optional(member), next))
  }
  return begin
}

function othersIn(
  schema: Schema,
  names: readonly string[],
  place: Place,
  grammar: SchemaGrammar,
): Others | undefined {
  const { patternProperties, propertyNames } = schema
  for (const key of ['patternProperties', 'propertyNames'] as const) {
    if (schema[key] !== undefined && names.length > 0)
      throw badPlace(place, key, 'is not supported together with properties or required')
  }
  const isOpen = names.length === 0 || schema.additionalProperties !== undefined
  const { additionalProperties = patternProperties === undefined && isOpen } = schema
  if (patternProperties !== undefined) {
    if (additionalProperties !== false || propertyNames !== undefined)
      throw badPlace(
        place,
        'patternProperties',
        'needs additionalProperties false, and no propertyNames',
      )
    return counted(schema, patternMember(patternProperties, place, grammar), place)
  }
  if (additionalProperties === false) return undefined
  const key = propertyNames === undefined ? keyBesides(names) : keyIn(propertyNames, place, grammar)
  const value = grammar.inside(additionalProperties, place.at('additionalProperties'))
  return counted(schema, grammar.rule(sequence(key, COLON, value), place), place)
}

function patternMember(patterns: unknown, place: Place, grammar: SchemaGrammar): Expression {
  const entries = isObject(patterns) ? Object.entries(patterns) : []
  if (entries.length !== 1)
    throw badPlace(place, 'patternProperties', 'expected an object with one pattern')
  const [[pattern, schema]] = entries as [[string, unknown]]
  const key = quoted(anyMatch(pattern, place.of('patternProperties', pattern), IN_STRING))
  const value = grammar.inside(schema, place.at('patternProperties', pattern))
  return grammar.rule(sequence(key, COLON, value), place)
}

function keyIn(names: unknown, place: Place, grammar: SchemaGrammar): Expression {
  if (names === true) return keyBesides([])
  const isText = isObject(names) && (names.type === undefined || names.type === 'string')
  const isList =
    isObject(names) && [names.const, ...((names.enum as unknown[]) ?? [])].some(isString)
  if (
    !isText ||
    !(isList || ['pattern', 'minLength', 'maxLength', 'format', 'type'].some(key => key in names))
  )
    throw badPlace(place, 'propertyNames', 'expected a schema of strings')
  return grammar.inside({ type: 'string', ...names }, place.at('propertyNames'))
}

function isString(value: unknown): boolean {
  return typeof value === 'string'
}

/**
 * The number of others is bounded. One key may come twice, which counts once. So a lower bound
 * above 1 cannot be kept.
 */
function counted(schema: Schema, expression: Expression, place: Place): Others {
  const least = integerAt(schema, 'minProperties', place) ?? 0
  const most = integerAt(schema, 'maxProperties', place) ?? Infinity
  if (least > most) throw badPlace(place, 'minProperties', `is above maxProperties, ${most}`)
  const names = Object.keys(recordAt(schema, 'properties', place)).length
  return { expression, least: names === 0 ? least : 0, most: Math.max(0, most - names) }
}

function checkCounts(
  schema: Schema,
  members: readonly Member[],
  others: Others | undefined,
  place: Place,
): void {
  const least = integerAt(schema, 'minProperties', place) ?? 0
  const most = integerAt(schema, 'maxProperties', place) ?? Infinity
  const required = members.filter(({ isRequired }) => isRequired).length
  const isMany = least > Math.max(required, others && members.length === 0 ? 1 : 0)
  if (isMany) throw badPlace(place, 'minProperties', 'above the required ones is not supported')
  if (most < members.length)
    throw badPlace(place, 'maxProperties', 'below the properties is not supported')
}

/** A quoted key that is none of `names`. It has no escapes, which could spell one of them. */
function keyBesides(names: readonly string[]): Expression {
  const usable = names.filter(isPlain)
  return sequence(text('"'), restBesides(usable))
}

function isPlain(name: string): boolean {
  const codes = Array.from(name, character => single(character.codePointAt(0)!))
  return intersection(codes, complement(UNESCAPED)).length === 0
}

/** The rest of a key and its quote, so that the rest is none of `names`. */
function restBesides(names: readonly string[]): Expression {
  const free = sequence(repeat(characters(...UNESCAPED), 0), text('"'))
  if (names.length === 0) return free
  const byFirst = new Map<number, string[]>()
  for (const name of names.filter(each => each !== '')) {
    const first = name.codePointAt(0)!
    byFirst.set(first, [...(byFirst.get(first) ?? []), name])
  }
  const taken = [...byFirst.keys()].map(single)
  const options = [
    sequence(characters(...intersection(UNESCAPED, complement(taken))), free),
    ...(names.includes('') ? [] : [text('"')]),
    ...Array.from(byFirst, ([code, same]) => {
      const first = String.fromCodePoint(code)
      return sequence(text(first), restBesides(same.map(name => name.slice(first.length))))
    }),
  ]
  return either(...options)
}
