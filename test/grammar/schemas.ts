/** Schemas, and values that their grammars must accept as JSON.stringify writes them. */
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'

interface SchemaCase {
  readonly schema: object | boolean
  readonly values: readonly unknown[]
}

const ajv = new Ajv2020({ strictTypes: false, strictTuples: false, strictRequired: false })
addFormats.default(ajv)

/** Tells whether values are valid. */
export const validator = (schema: object | boolean) => ajv.compile(schema as object)

const string = { type: 'string' }
const integer = { type: 'integer' }

export const SCHEMAS: readonly SchemaCase[] = [
  { schema: true, values: [null, 1.5, 'x', [], {}, { a: [1, { b: 'é"\\\n' }] }] },
  { schema: {}, values: [0, 'a'] },
  { schema: { type: 'string' }, values: ['', '😀 "quoted" \\ \u0001 \u007f'] },
  { schema: { type: 'string', minLength: 2, maxLength: 5 }, values: ['ab', 'é東😀ab'] },
  { schema: { type: 'string', maxLength: 40 }, values: ['x'.repeat(40)] },
  { schema: { type: 'string', pattern: '^[a-z]+\\d{2,3}$' }, values: ['ab12', 'z123'] },
  { schema: { type: 'string', pattern: 'b' }, values: ['abc', 'b', '"b\\'] },
  { schema: { pattern: '^(a|b"\\\\)|c$', type: 'string' }, values: ['a…', 'b"\\', 'xc'] },
  { schema: { type: 'string', pattern: '^[^é\\s]{3}$' }, values: ['a"\\', '東😀x'] },
  { schema: { type: 'string', pattern: '^\\p{Lu}\\p{Ll}*$' }, values: ['Éa', 'Ж'] },
  { schema: { type: 'string', format: 'date' }, values: ['2024-02-29', '1999-12-31'] },
  { schema: { type: 'string', format: 'date-time' }, values: ['2024-02-29T23:59:59Z'] },
  { schema: { type: 'string', format: 'time' }, values: ['00:00:00.5+01:00'] },
  { schema: { type: 'string', format: 'uuid' }, values: ['01234567-89ab-cdef-0123-456789abcdef'] },
  { schema: { type: 'string', format: 'ipv4' }, values: ['255.0.19.204'] },
  { schema: { type: 'string', format: 'ipv6' }, values: ['1:2:3:4:5:6:7:8'] },
  { schema: { type: 'string', format: 'email' }, values: ['a.b@example.com'] },
  { schema: { type: 'string', format: 'hostname' }, values: ['a-b.example'] },
  { schema: { type: 'string', format: 'uri' }, values: ['https://a.b/c-d/e'] },
  { schema: integer, values: [0, -1, 123456789012345] },
  { schema: { type: 'integer', minimum: 0 }, values: [0, 7, 999] },
  { schema: { type: 'integer', minimum: 1, maximum: 100 }, values: [1, 9, 10, 99, 100] },
  { schema: { type: 'integer', minimum: -57, maximum: 123 }, values: [-57, -9, 0, 58, 123] },
  { schema: { type: 'integer', exclusiveMinimum: -3, exclusiveMaximum: 3 }, values: [-2, 2] },
  { schema: { type: 'integer', maximum: -100.5 }, values: [-101, -99999] },
  { schema: { type: 'integer', minimum: 987, maximum: 123456 }, values: [987, 1000, 123456] },
  { schema: { type: 'number' }, values: [0, -1.25, 1e21, 5e-7] },
  { schema: { type: 'number', minimum: 0, maximum: 1 }, values: [0, 0.5, 1, 0.000001] },
  { schema: { type: 'number', exclusiveMinimum: 0, maximum: 0.25 }, values: [0.25, 0.1] },
  { schema: { type: 'number', minimum: -1.5, exclusiveMaximum: 2.75 }, values: [-1.5, 0, 2.749] },
  { schema: { type: 'number', minimum: 1e-7 }, values: [0.000001, 3] },
  { schema: { type: 'number', maximum: -273.15 }, values: [-273.15, -1000] },
  { schema: { type: ['integer', 'null'] }, values: [1, null] },
  { schema: { type: ['string', 'number'], minimum: 3 }, values: ['', 3.5] },
  { schema: { const: { a: [1, 'é"'] } }, values: [{ a: [1, 'é"'] }] },
  { schema: { enum: ['red', 1, null, [true]] }, values: ['red', 1, null, [true]] },
  { schema: { type: 'string', enum: ['red', 1] }, values: ['red'] },
  { schema: { type: 'array' }, values: [[], [1, 'a']] },
  { schema: { type: 'array', items: integer, minItems: 2, maxItems: 4 }, values: [[1, 2, 3]] },
  { schema: { type: 'array', items: string, minItems: 1 }, values: [['a'], ['', '']] },
  { schema: { type: 'array', items: integer, maxItems: 1 }, values: [[], [1]] },
  { schema: { type: 'array', prefixItems: [integer, string] }, values: [[1, 'a']] },
  {
    schema: { type: 'array', prefixItems: [integer], items: string, minItems: 2, maxItems: 3 },
    values: [
      [1, 'a'],
      [1, 'a', 'b'],
    ],
  },
  { schema: { type: 'array', items: { type: 'boolean' }, minItems: 3, maxItems: 3 }, values: [] },
  { schema: { type: 'object' }, values: [{}, { a: 1, b: 'x' }] },
  { schema: { type: 'object', properties: {}, additionalProperties: false }, values: [{}] },
  {
    schema: {
      type: 'object',
      title: 'Person',
      properties: {
        name: string,
        age: { type: 'integer', minimum: 0 },
        tags: { type: 'array', items: string },
      },
      required: ['name', 'age'],
    },
    values: [
      { name: 'A', age: 3 },
      { name: '', age: 0, tags: ['x'] },
    ],
  },
  {
    schema: { type: 'object', properties: { a: integer, b: string, c: { type: 'null' } } },
    values: [{}, { a: 1 }, { b: '' }, { c: null }, { a: 1, c: null }, { a: 1, b: '', c: null }],
  },
  {
    schema: { type: 'object', properties: { a: integer, b: string }, required: ['b'] },
    values: [{ b: '' }, { a: 1, b: 'x' }],
  },
  {
    schema: {
      type: 'object',
      properties: { ab: integer, ac: integer, é: string },
      additionalProperties: string,
    },
    values: [{}, { ab: 1, x: 'y' }, { x: '', abc: '', a: '', é2: '' }],
  },
  {
    schema: {
      type: 'object',
      properties: { a: integer },
      required: ['a'],
      additionalProperties: true,
    },
    values: [{ a: 1 }, { a: 1, b: [] }],
  },
  { schema: { type: 'object', additionalProperties: integer }, values: [{}, { x: 1, y: 2 }] },
  {
    schema: { type: 'object', additionalProperties: integer, minProperties: 1, maxProperties: 2 },
    values: [{ x: 1 }],
  },
  { schema: { type: 'object', required: ['a', 'b'] }, values: [{ a: 1, b: [] }] },
  {
    schema: {
      type: 'object',
      propertyNames: { pattern: '^[a-z]{1,3}$' },
      additionalProperties: integer,
    },
    values: [{ abc: 1, x: 2 }],
  },
  { schema: { type: 'object', propertyNames: { enum: ['x', 'y'] } }, values: [{ x: 1 }] },
  {
    schema: { type: 'object', patternProperties: { '^x-': string }, additionalProperties: false },
    values: [{}, { 'x-a': '' }],
  },
  {
    schema: { anyOf: [integer, { type: 'null' }, { type: 'string', maxLength: 2 }] },
    values: [1, null, 'ab'],
  },
  { schema: { oneOf: [integer, string] }, values: [1, ''] },
  {
    schema: {
      oneOf: [
        {
          type: 'object',
          properties: { kind: { const: 'a' }, x: integer },
          required: ['kind', 'x'],
        },
        { type: 'object', properties: { kind: { enum: ['b', 'c'] } }, required: ['kind'] },
      ],
    },
    values: [{ kind: 'a', x: 1 }, { kind: 'c' }],
  },
  { schema: { allOf: [integer], description: 'one' }, values: [5] },
  {
    schema: {
      $defs: { n: { type: 'integer', maximum: 9, minimum: 1 } },
      type: 'array',
      items: { $ref: '#/$defs/n' },
    },
    values: [[], [1, 9]],
  },
  {
    schema: {
      definitions: {
        'a/b ~': {
          type: 'object',
          properties: {
            value: integer,
            next: { anyOf: [{ $ref: '#/definitions/a~1b%20~0' }, { type: 'null' }] },
          },
          required: ['value', 'next'],
        },
      },
      $ref: '#/definitions/a~1b%20~0',
    },
    values: [{ value: 1, next: { value: 2, next: null } }],
  },
  {
    schema: { type: 'object', properties: { children: { type: 'array', items: { $ref: '#' } } } },
    values: [{}, { children: [{}, { children: [] }] }],
  },
  {
    schema: {
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      $id: 'https://a.b/c',
      type: 'boolean',
    },
    values: [true],
  },
]
