/** Places in a schema, for messages, and checked values at them. */
import { show } from '../base/json.js'
import type { MoeppError } from '../errors.js'
import { badGrammar } from './errors.js'

export type Schema = Readonly<Record<string, unknown>>

/** The place of a schema, as JavaScript writes it: `grammar.jsonSchema.properties.a`. */
export class Place {
  readonly name: string

  constructor(name: string) {
    this.name = name
  }

  /** The name of a part. */
  of(...keys: (string | number)[]): string {
    return keys.reduce<string>((name, key) => {
      const isName = typeof key === 'string' && /^[$\w]+$/.test(key)
      return isName ? `${name}.${key}` : `${name}[${show(key)}]`
    }, this.name)
  }

  at(...keys: (string | number)[]): Place {
    return new Place(this.of(...keys))
  }
}

export function badPlace(place: Place, key: string | number, problem: string): MoeppError {
  return badGrammar(place.of(key), problem)
}

/** An integer from 0, if there is one. */
export function integerAt(schema: Schema, key: string, place: Place): number | undefined {
  const value = schema[key]
  if (value === undefined) return undefined
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number
  throw badPlace(place, key, `expected an integer >= 0, got ${show(value)}`)
}

export function numberAt(schema: Schema, key: string, place: Place): number | undefined {
  const value = schema[key]
  if (value === undefined || Number.isFinite(value)) return value as number | undefined
  throw badPlace(place, key, `expected a number, got ${show(value)}`)
}
