/**
 * JSON Schema as a grammar. Every text of the grammar is JSON, and valid by the schema (draft
 * 2020-12). A keyword that cannot be kept is refused; nothing is ignored but annotations.
 *
 * The grammar may allow less than the schema. Keys come in the schema's order. An object without
 * `additionalProperties` has no others. Numbers have 15 digits at most.
 */
import { isObject, show } from '../base/json.js'
import { areDisjoint, typeOf } from './disjoint.js'
import { badGrammar } from './errors.js'
import { type Expression, either, type ParsedGrammar, Rules, text } from './expression.js'
import { arrayIn } from './json-array.js'
import { ANY_NUMBER, type Bounds, decimalsIn, integersIn, isCoarse } from './json-number.js'
import { objectIn } from './json-object.js'
import { stringIn } from './json-string.js'
import { stringOf, writtenValue } from './json-text.js'
import { badPlace, numberAt, Place, type Schema } from './schema-place.js'

const ANNOTATIONS = new Set([
  ...['title', 'description', 'default', 'examples', '$comment', '$schema', 'deprecated'],
  ...['readOnly', 'writeOnly', '$defs', 'definitions'],
])

const KEYWORDS: Readonly<Record<string, readonly string[]>> = {
  string: ['minLength', 'maxLength', 'pattern', 'format'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
  object: [
    ...['properties', 'required', 'additionalProperties', 'patternProperties', 'propertyNames'],
    ...['minProperties', 'maxProperties'],
  ],
  array: ['items', 'prefixItems', 'minItems', 'maxItems', 'uniqueItems'],
}
const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null']
/** Each stands alone in its schema, but for annotations, and `type` beside a list of values. */
const ALONE = ['$ref', 'const', 'enum', 'anyOf', 'oneOf', 'allOf']
const KNOWN = new Set([...ANNOTATIONS, ...Object.values(KEYWORDS).flat(), ...ALONE, 'type'])

/** Schemas nest at most so deep: the conversion is recursive. */
const MAX_DEPTH = 100

/** @throws MoeppError ERR_BAD_GRAMMAR */
export function schemaGrammar(schema: unknown, name: string): ParsedGrammar {
  return new SchemaGrammar(schema, name).whole()
}

export class SchemaGrammar {
  readonly #root: unknown
  readonly #place: Place
  readonly #rules = new Rules()
  readonly #referred = new Map<string, Expression>()
  /** References that are being followed, and have written no character yet. */
  #following: string[] = []
  #depth = 0
  #any: Expression | undefined

  constructor(root: unknown, name: string) {
    this.#root = root
    this.#place = new Place(name)
  }

  whole(): ParsedGrammar {
    return { root: this.of(this.#root, this.#place), rules: this.#rules }
  }

  of(schema: unknown, place: Place): Expression {
    if (schema === true) return this.#anyValue()
    if (schema === false) throw badGrammar(place.name, 'is false, which allows nothing')
    if (!isObject(schema)) throw badGrammar(place.name, `expected a schema, got ${show(schema)}`)
    if (++this.#depth > MAX_DEPTH) throw badGrammar(place.name, `deeper than ${MAX_DEPTH} levels`)
    this.#checkKeywords(schema, place)
    const alone = ALONE.find(keyword => keyword in schema)
    const expression = alone ? this.#alone(alone, schema, place) : this.#typed(schema, place)
    this.#depth--
    return expression
  }

  /** A part of an object or array: behind its bracket, a reference may lead back. */
  inside(schema: unknown, place: Place): Expression {
    const following = this.#following
    this.#following = []
    const expression = this.of(schema, place)
    this.#following = following
    return expression
  }

  /** A name for an expression that is written in several places. */
  rule(expression: Expression, place: Place): Expression {
    return this.#rules.define(place.name, expression)
  }

  #checkKeywords(schema: Schema, place: Place): void {
    for (const keyword of Object.keys(schema)) {
      const isRootId = keyword === '$id' && schema === this.#root
      if (!KNOWN.has(keyword) && !isRootId && !keyword.startsWith('x-'))
        throw badPlace(place, keyword, 'is not supported')
    }
  }

  #alone(keyword: string, schema: Schema, place: Place): Expression {
    const isList = keyword === 'const' || keyword === 'enum'
    for (const other of Object.keys(schema)) {
      const isFree = ANNOTATIONS.has(other) || other.startsWith('x-') || other === '$id'
      if (other === keyword || isFree || (isList && other === 'type')) continue
      throw badPlace(place, other, `is not supported together with ${keyword}`)
    }
    if (keyword === '$ref') return this.#reference(schema.$ref, place)
    if (isList) return this.#values(schema, place)
    const schemas = schema[keyword]
    if (!Array.isArray(schemas) || schemas.length === 0)
      throw badPlace(place, keyword, `expected a list of schemas, got ${show(schemas)}`)
    if (keyword === 'allOf' && schemas.length > 1)
      throw badPlace(place, keyword, 'is not supported for several schemas')
    const options = schemas.map((each, i) => this.of(each, place.at(keyword, i)))
    if (keyword === 'oneOf') this.#checkDisjoint(schemas, place)
    return either(...options)
  }

  #checkDisjoint(schemas: readonly unknown[], place: Place): void {
    const resolve = (schema: unknown): Schema => this.#resolved(schema)
    for (const [i, a] of schemas.entries()) {
      for (const [j, b] of schemas.slice(0, i).entries()) {
        if (areDisjoint(a, b, resolve)) continue
        const which = `a value may be valid by ${j} and by ${i}`
        throw badPlace(place, 'oneOf', `${which}; take anyOf, or a key with different constants`)
      }
    }
  }

  /** The schema behind references and lists of one. */
  #resolved(schema: unknown): Schema {
    let current = schema
    for (let i = 0; i < MAX_DEPTH && isObject(current); i++) {
      if (typeof current.$ref === 'string') current = this.#target(current.$ref, this.#place)
      else if (Array.isArray(current.allOf)) current = current.allOf[0]
      else return current
    }
    return {}
  }

  #values(schema: Schema, place: Place): Expression {
    const keyword = 'const' in schema ? 'const' : 'enum'
    const listed = keyword === 'const' ? [schema.const] : schema.enum
    if (!Array.isArray(listed))
      throw badPlace(place, keyword, `expected a list, got ${show(listed)}`)
    const types = typesOf(schema, place)
    const values = listed.filter(value => !types || types.some(type => isOfType(value, type)))
    if (values.length === 0) throw badPlace(place, keyword, 'allows nothing')
    try {
      return either(...values.map(writtenValue))
    } catch {
      throw badPlace(place, keyword, 'expected values of JSON')
    }
  }

  #reference(ref: unknown, place: Place): Expression {
    if (typeof ref !== 'string') throw badPlace(place, '$ref', `expected a text, got ${show(ref)}`)
    if (this.#following.includes(ref)) throw badPlace(place, '$ref', 'leads to itself')
    const known = this.#referred.get(ref)
    if (known) return known
    const target = this.#target(ref, place)
    const rule = this.#rules.reserve(place.name)
    const expression: Expression = { kind: 'rule', rule }
    this.#referred.set(ref, expression)
    this.#following.push(ref)
    rule.body = this.of(target, place.at('$ref'))
    this.#following.pop()
    return expression
  }

  #target(ref: string, place: Place): unknown {
    if (ref !== '#' && !ref.startsWith('#/'))
      throw badPlace(place, '$ref', `${show(ref)}: only references within the schema are supported`)
    let target = this.#root
    for (const part of ref.split('/').slice(1)) {
      const key = decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~')
      const isThere = typeof target === 'object' && target !== null && Object.hasOwn(target, key)
      if (!isThere) throw badPlace(place, '$ref', `${show(ref)}: there is no such schema`)
      target = (target as Record<string, unknown>)[key]
    }
    return target
  }

  #typed(schema: Schema, place: Place): Expression {
    const types = typesOf(schema, place) ?? impliedTypes(schema)
    if (types.length === 0) return this.#anyValue()
    return either(...types.map(type => this.#ofType(type, schema, place)))
  }

  #ofType(type: string, schema: Schema, place: Place): Expression {
    if (type === 'object') return objectIn(schema, place, this)
    if (type === 'array') return arrayIn(schema, place, this)
    if (type === 'string') return stringIn(schema, place)
    if (type === 'boolean') return either(text('true'), text('false'))
    if (type === 'null') return text('null')
    return numberIn(schema, place, type === 'integer')
  }

  /** Any value of JSON. */
  #anyValue(): Expression {
    if (this.#any) return this.#any
    const rule = this.#rules.reserve(this.#place.name)
    this.#any = { kind: 'rule', rule }
    rule.body = either(
      stringOf(0, Infinity),
      ANY_NUMBER,
      ...['true', 'false', 'null'].map(text),
      objectIn({}, this.#place, this),
      arrayIn({}, this.#place, this),
    )
    return this.#any
  }
}

function typesOf({ type }: Schema, place: Place): readonly string[] | undefined {
  if (type === undefined) return undefined
  const types: unknown[] = Array.isArray(type) ? type : [type]
  if (types.length === 0 || !types.every(each => TYPES.includes(each as string)))
    throw badPlace(place, 'type', `expected some of ${TYPES.join(', ')}, got ${show(type)}`)
  // An integer is a number: the same text must not come from two rules.
  return (types as string[]).filter(each => each !== 'integer' || !types.includes('number'))
}

/** The types that keywords are about: other types would be valid too, but hardly meant. */
function impliedTypes(schema: Schema): string[] {
  return Object.keys(KEYWORDS).filter(type => KEYWORDS[type]!.some(keyword => keyword in schema))
}

function isOfType(value: unknown, type: string): boolean {
  return type === 'integer' ? Number.isInteger(value) : typeOf(value) === type
}

function numberIn(schema: Schema, place: Place, isInteger: boolean): Expression {
  const { multipleOf } = schema
  if (multipleOf !== undefined && !(isInteger && multipleOf === 1))
    throw badPlace(place, 'multipleOf', 'is not supported')
  const bounds = boundsOf(schema, place)
  const isBounded = [bounds.minimum, bounds.maximum].some(Number.isFinite)
  if (!isInteger && !isBounded) return ANY_NUMBER
  const numbers = isInteger ? integersIn(bounds) : decimalsIn(bounds)
  if (!numbers)
    throw badGrammar(place.name, `no ${isInteger ? 'integer' : 'number'} is within the bounds`)
  return numbers
}

function boundsOf(schema: Schema, place: Place): Bounds {
  const bound = (key: string, absent: number) => {
    const value = numberAt(schema, key, place) ?? absent
    if (schema.type !== 'integer' && isCoarse(value))
      throw badPlace(
        place,
        key,
        'bounds of numbers above 1e9 are not supported, of integers they are',
      )
    return value
  }
  const least = bound('minimum', -Infinity)
  const most = bound('maximum', Infinity)
  const above = bound('exclusiveMinimum', -Infinity)
  const below = bound('exclusiveMaximum', Infinity)
  return {
    minimum: Math.max(least, above),
    maximum: Math.min(most, below),
    aboveMinimum: above >= least && above !== -Infinity,
    belowMaximum: below <= most && below !== Infinity,
  }
}
