/** JSON Schema as a grammar: its texts are valid, and what cannot be kept is refused. */
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import t from 'tap'
import { schemaGrammar } from '../../lib/grammar/json-schema.js'
import { random, randomText } from './random-text.js'
import { SCHEMAS } from './schemas.js'

const ajv = new Ajv2020({
  strict: true,
  strictTypes: false,
  strictTuples: false,
  strictRequired: false,
})
addFormats.default(ajv)

const PLACE = 'grammar.jsonSchema'

t.test('random texts of each grammar are valid JSON', async t => {
  for (const { schema } of SCHEMAS) {
    const validate = ajv.compile(schema as object)
    const { root } = schemaGrammar(schema, PLACE)
    const next = random(7)
    const seen = new Set<string>()
    for (let i = 0; i < 200; i++) {
      const text = randomText(root, next)
      seen.add(text)
      const value = JSON.parse(text)
      if (!validate(value))
        t.fail(`${JSON.stringify(schema)}: ${text}: ${JSON.stringify(validate.errors)}`)
    }
    t.ok(seen.size > 0, JSON.stringify(schema))
  }
})
