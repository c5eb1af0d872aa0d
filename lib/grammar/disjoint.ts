/** Tells that no value can be valid by two schemas, where that is plain to see. */
import { isDeepStrictEqual } from 'node:util'
import { isObject } from '../base/json.js'
import type { Schema } from './schema-place.js'

type Resolve = (schema: unknown) => Schema

export function areDisjoint(a: unknown, b: unknown, resolve: Resolve, depth = 0): boolean {
  if (depth > 8) return false
  const [first, second] = [resolve(a), resolve(b)]
  const [these, those] = [valuesOf(first), valuesOf(second)]
  if (these && those)
    return these.every(value => !those.some(other => isDeepStrictEqual(value, other)))
  const [types, others] = [typesOf(first), typesOf(second)]
  if (types && others && types.every(type => !others.includes(type))) return true
  return haveDifferentKey(first, second, resolve, depth)
}

function valuesOf(schema: Schema): readonly unknown[] | undefined {
  if ('const' in schema) return [schema.const]
  return Array.isArray(schema.enum) ? schema.enum : undefined
}

function typesOf(schema: Schema): readonly string[] | undefined {
  const values = valuesOf(schema)
  if (values) return values.map(typeOf)
  if (schema.type === undefined) return undefined
  return [schema.type].flat().map(type => (type === 'integer' ? 'number' : String(type)))
}

/** Of JSON Schema; an integer is a number. */
export function typeOf(value: unknown): string {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'array' : typeof value
}

/** Both are objects with a required key that has different values. */
function haveDifferentKey(a: Schema, b: Schema, resolve: Resolve, depth: number): boolean {
  const [first, second] = [requiredOf(a), requiredOf(b)]
  return Object.keys(first).some(
    key => key in second && areDisjoint(first[key], second[key], resolve, depth + 1),
  )
}

function requiredOf({ type, properties, required }: Schema): Readonly<Record<string, unknown>> {
  if (type !== 'object' || !isObject(properties) || !Array.isArray(required)) return {}
  return Object.fromEntries(Object.entries(properties).filter(([key]) => required.includes(key)))
}
