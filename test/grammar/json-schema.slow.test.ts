/** The grammar of each schema in XGrammar: its texts are valid, and it accepts valid ones. */
import t from 'tap'
import { schemaGrammar } from '../../lib/grammar/json-schema.js'
import { tokenizer } from '../generation/fake-model.js'
import { random } from '../support/random.js'
import { Driver } from './drive.js'
import { randomText } from './random-text.js'
import { SCHEMAS, validator } from './schemas.js'

const driver = await Driver.of(tokenizer)

for (const { schema, values } of SCHEMAS) {
  t.test(JSON.stringify(schema), async t => {
    const validate = validator(schema)
    const grammar = await driver.compile({ jsonSchema: schema })
    t.teardown(() => grammar.close())
    const next = random(11)
    let cut = 0
    for (let i = 0; i < 10; i++) {
      const text = await driver.randomText(grammar, next)
      if (text === undefined) cut++
      else if (!validate(JSON.parse(text))) t.fail(text)
    }
    t.ok(cut < 8, `${cut} texts were cut`)
    const { root } = schemaGrammar(schema, 'schema')
    const texts = [
      ...values.map(value => JSON.stringify(value)),
      ...Array.from({ length: 10 }, () => randomText(root, next)),
    ]
    for (const text of texts) t.ok(await driver.accepts(grammar, driver.bytes(text)), text)
    for (const text of texts.slice(0, 3))
      t.notOk(await driver.accepts(grammar, driver.bytes(`${text}x`)), `${text}x`)
  })
}

t.test('other keys are none of the named ones, however they are spelled', async t => {
  const jsonSchema = {
    type: 'object',
    properties: { ab: { type: 'integer' }, abc: { type: 'integer' }, '': { type: 'integer' } },
    additionalProperties: { type: 'string' },
  }
  const grammar = await driver.compile({ jsonSchema })
  t.teardown(() => grammar.close())
  for (const key of ['a', 'abcd', 'abd', 'b', 'é'])
    t.ok(await driver.accepts(grammar, driver.bytes(`{"${key}":"x"}`)), key)
  for (const key of ['ab', 'abc', '', '\\u0061b', 'a\\u0062'])
    t.notOk(await driver.accepts(grammar, driver.bytes(`{"${key}":"x"}`)), key)
})

t.test('strings of a grammar are as long as they may be, and no longer', async t => {
  const schema = {
    type: 'array',
    items: { anyOf: [{ type: 'string', minLength: 15, maxLength: 40 }, { const: 'é' }] },
    minItems: 1,
    maxItems: 3,
  }
  const grammar = await driver.compile({ jsonSchema: schema })
  t.teardown(() => grammar.close())
  const next = random(2)
  const seen = new Set<number>()
  for (let i = 0; i < 40; i++) {
    const text = await driver.randomText(grammar, next, 400, 0.02)
    for (const item of text === undefined ? [] : (JSON.parse(text) as string[])) {
      const { length } = [...item]
      seen.add(length)
      t.ok(item === 'é' || (length >= 15 && length <= 40), text!)
    }
  }
  t.ok(Math.max(...seen) > 38, `up to ${Math.max(...seen)}`)
  for (const [text, isIn] of [
    [`["${'x'.repeat(40)}"]`, true],
    [`["${'x'.repeat(41)}"]`, false],
    [`["${'x'.repeat(39)}\\n","${'é'.repeat(40)}"]`, true],
    [`["${'x'.repeat(40)}\\n"]`, false],
    [`["${'x'.repeat(14)}"]`, false],
  ] as const)
    t.equal(await driver.accepts(grammar, driver.bytes(text)), isIn, text)
})
