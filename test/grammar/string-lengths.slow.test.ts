/** Strings whose length a schema limits, through the whole grammar. */
import { join } from 'node:path'
import t from 'tap'
import { loadTokenizer } from '../../lib/tokenizer/tokenizer.js'
import { golden } from '../support/golden.js'
import { random } from '../support/random.js'
import { Driver } from './drive.js'

t.test('no token that ends within a character or an escape leads beyond a length', async t => {
  const directory = join(golden, 'tokenizer-byte-level', 'qwen-bpe')
  const driver = await Driver.of(await loadTokenizer(directory))
  const next = random(5)
  const table = [
    [30, 40],
    [0, 17],
    [39, 40],
    [17, 17],
  ] as const
  for (const [minLength, maxLength] of table) {
    const string = { type: 'string', minLength, maxLength }
    const jsonSchema = { type: 'array', items: string, minItems: 2, maxItems: 2 }
    const grammar = await driver.compile({ jsonSchema })
    t.teardown(() => grammar.close())
    for (let i = 0; i < 40; i++) {
      const text = await driver.randomText(grammar, next, 400, 0)
      const lengths = (JSON.parse(text!) as string[]).map(each => [...each].length)
      t.ok(
        lengths.every(length => length >= minLength && length <= maxLength),
        text!,
      )
    }
  }
})
