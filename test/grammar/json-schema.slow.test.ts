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
    for (let i = 0; i < 20; i++) {
      const text = await driver.randomText(grammar, next)
      if (text === undefined) cut++
      else if (!validate(JSON.parse(text))) t.fail(text)
    }
    t.ok(cut < 15, `${cut} texts were cut`)
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
