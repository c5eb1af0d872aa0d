/** Arrays of JSON Schema. */
import { type Expression, sequence, text } from './expression.js'
import type { SchemaGrammar } from './json-schema.js'
import { countedItems, separated } from './json-text.js'
import { badPlace, integerAt, type Place, type Schema } from './schema-place.js'

/**
 * All of `prefixItems`, unless `maxItems` is less. Others follow if there is `items`, or no
 * `prefixItems`.
 */
export function arrayIn(schema: Schema, place: Place, grammar: SchemaGrammar): Expression {
  const { prefixItems = [], items = schema.prefixItems === undefined } = schema
  const least = integerAt(schema, 'minItems', place) ?? 0
  const most = integerAt(schema, 'maxItems', place) ?? Infinity
  if (least > most) throw badPlace(place, 'minItems', `is above maxItems, ${most}`)
  if (schema.uniqueItems !== undefined && schema.uniqueItems !== false && most > 1)
    throw badPlace(place, 'uniqueItems', 'is not supported')
  if (!Array.isArray(prefixItems))
    throw badPlace(place, 'prefixItems', 'expected a list of schemas')
  const first = prefixItems
    .slice(0, most)
    .map((each, i) => grammar.inside(each, place.at('prefixItems', i)))
  const more = most - first.length
  const needed = Math.max(0, least - first.length)
  if (items === false || more === 0) {
    if (needed > 0)
      throw badPlace(place, 'minItems', `is above the ${first.length} items there can be`)
    return sequence(text('['), separated(first), text(']'))
  }
  const item = grammar.rule(grammar.inside(items, place.at('items')), place)
  const others = countedItems(item, needed, more)
  const all = first.length === 0 ? others.first : sequence(separated(first), others.behind)
  return sequence(text('['), all, text(']'))
}
