/** JSON Schema as a grammar: its texts are valid, and what cannot be kept is refused. */
import t from 'tap'
import { grammarText } from '../../lib/grammar/grammar-text.js'
import { schemaGrammar } from '../../lib/grammar/json-schema.js'
import { random } from '../support/random.js'
import { randomText } from './random-text.js'
import { SCHEMAS, validator } from './schemas.js'

const PLACE = 'grammar.jsonSchema'

t.test('random texts of each grammar are valid JSON', async t => {
  for (const { schema } of SCHEMAS) {
    const validate = validator(schema)
    const { root } = schemaGrammar(schema, PLACE)
    const next = random(7)
    const texts = Array.from({ length: 60 }, () => randomText(root, next))
    const invalid = texts.filter(text => !validate(JSON.parse(text)))
    t.same(invalid, [], JSON.stringify(schema))
  }
})

t.test('keywords that could not be kept, and schemas that allow nothing, are refused', t => {
  const string = { type: 'string' }
  const table: [schema: unknown, message: RegExp][] = [
    [false, /^grammar.jsonSchema: is false, which allows nothing/],
    [5, /^grammar.jsonSchema: expected a schema, got 5/],
    [{ properties: { a: { not: string } } }, /^grammar.jsonSchema.properties.a.not: is not sup/],
    [{ properties: { 'a b': false } }, /^grammar.jsonSchema.properties\["a b"\]: is false/],
    [{ if: {}, else: {} }, /^grammar.jsonSchema.if: is not supported/],
    [{ type: 'array', contains: {} }, /contains: is not supported/],
    [{ type: 'array', uniqueItems: true }, /uniqueItems: is not supported/],
    [{ type: 'array', items: [string] }, /items: expected a schema/],
    [{ type: 'array', minItems: 2, maxItems: 1 }, /minItems: is above maxItems/],
    [{ type: 'array', prefixItems: [string], minItems: 2 }, /minItems: is above the 1 items/],
    [{ type: 'object', dependentRequired: {} }, /dependentRequired: is not supported/],
    [{ type: 'object', unevaluatedProperties: false }, /unevaluatedProperties: is not supp/],
    [{ type: 'object', required: ['a'], additionalProperties: false }, /required: "a" is none/],
    [{ type: 'object', minProperties: 2 }, /minProperties: above/],
    [{ type: 'object', properties: { a: {}, b: {} }, maxProperties: 1 }, /maxProperties: below/],
    [{ type: 'object', properties: { a: {} }, propertyNames: {} }, /propertyNames: is not/],
    [{ type: 'object', propertyNames: { type: 'integer' } }, /propertyNames: expected a schema of/],
    [{ patternProperties: { a: {} }, additionalProperties: {} }, /patternProperties: needs addit/],
    [{ type: 'object', required: 'a' }, /required: expected a list of names/],
    [{ type: 'strng' }, /type: expected some of object, array/],
    [{ type: 'string', minLength: 3, maxLength: 2 }, /minLength: is above maxLength/],
    [{ type: 'string', minLength: -1 }, /minLength: expected an integer >= 0/],
    [{ type: 'string', format: 'iri' }, /format: is not supported, expected one of date/],
    [{ type: 'string', format: 'date', pattern: 'a' }, /pattern: is not supported together/],
    [{ type: 'string', pattern: '(' }, /pattern: Invalid regular expression/],
    [{ type: 'string', pattern: 'a(?=b)' }, /pattern: \(\?= is not supported/],
    [{ type: 'integer', minimum: 5, maximum: 3 }, /no integer is within the bounds/],
    [{ type: 'integer', minimum: 0.2, maximum: 0.8 }, /no integer is within/],
    [{ type: 'integer', minimum: 1e16 }, /no integer is within/],
    [{ type: 'number', exclusiveMinimum: 1, maximum: 1 }, /no number is within the bounds/],
    [{ type: 'number', maximum: 1e10 }, /maximum: bounds of numbers above 1e9/],
    [{ type: 'number', minimum: '1' }, /minimum: expected a number, got "1"/],
    [{ type: 'number', multipleOf: 0.5 }, /multipleOf: is not supported/],
    [{ enum: [] }, /enum: allows nothing/],
    [{ type: 'string', const: 1 }, /const: allows nothing/],
    [{ enum: 'a' }, /enum: expected a list/],
    [{ const: 1, minimum: 0 }, /minimum: is not supported together with const/],
    [{ anyOf: [] }, /anyOf: expected a list of schemas/],
    [{ anyOf: [string], type: 'string' }, /type: is not supported together with anyOf/],
    [{ allOf: [string, { maxLength: 2 }] }, /allOf: is not supported for several/],
    [{ oneOf: [string, { enum: ['a'] }] }, /oneOf: a value may be valid by 0 and by 1/],
    [{ oneOf: [{ type: 'number' }, { type: 'integer' }] }, /oneOf: a value may be valid/],
    [{ $ref: 'https://a.b/c' }, /\$ref: "https:\/\/a.b\/c": only references within/],
    [{ $ref: '#/$defs/a' }, /\$ref: "#\/\$defs\/a": there is no such schema/],
    [{ $ref: '#' }, /\$ref: leads to itself/],
    [
      { $defs: { a: { anyOf: [{ $ref: '#/$defs/a' }, string] } }, $ref: '#/$defs/a' },
      /leads to its/,
    ],
    [{ type: 'object', properties: { a: { $ref: '#' } }, required: ['a'] }, /no text can end/],
    [{ type: 'string', nullable: true }, /nullable: is not supported/],
    [{ type: 'string', minLength: 2000 }, /repeats more than 1000 times/],
  ]
  for (const [schema, message] of table) {
    const error = { name: 'MoeppError', code: 'ERR_BAD_GRAMMAR', message }
    t.throws(() => grammarText({ jsonSchema: schema }), error, JSON.stringify(schema))
  }
  let deep: object = string
  for (let i = 0; i < 120; i++) deep = { type: 'array', items: deep }
  t.throws(() => grammarText({ jsonSchema: deep }), { message: /deeper than 100 levels/ })
  t.end()
})
