/** Grammars with tokenizers of both forms, and with the bundled model. */
import { join } from 'node:path'
import t from 'tap'
import { loadModel, loadTokenizer } from '../../lib/index.js'
import { golden, root } from '../support/golden.js'
import { Driver } from './drive.js'

const schema = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 30 },
    age: { type: 'integer', minimum: 0, maximum: 150 },
  },
  required: ['name', 'age'],
}
const grammar = { jsonSchema: schema }
const text = JSON.stringify({ name: 'Zoë "Z" 東京 😀', age: 42 })

t.test('long tokens of a valid text fit, in vocabularies of both forms', async t => {
  for (const name of ['tokenizer/bpe', 'tokenizer-byte-level/qwen-bpe']) {
    const tokenizer = await loadTokenizer(join(golden, name))
    const driver = await Driver.of(tokenizer)
    const compiled = await driver.compile(grammar)
    t.teardown(() => compiled.close())
    const ids = driver.longest(text)
    t.ok(ids.length < Buffer.from(text).length, 'some tokens are longer than a byte')
    t.ok(await driver.accepts(compiled, ids), name)
    for (const { id } of tokenizer.specialTokens) t.notOk(await driver.accepts(compiled, [id]))
  }
})

t.test('the bundled model: the same text alone and in a batch, and with a stream', async t => {
  await using model = await loadModel(join(root, 'models', 'books-7m'))
  const prompts = ['The old man: ', 'She said ', 'Once upon a time, ', 'A']
  const options = { grammar, temperature: 0.8, seed: 4, maxNewTokens: 120, logprobs: 0 }
  const together = await model.generate(prompts, options)
  for (const [i, prompt] of prompts.entries()) {
    const alone = await model.generate(prompt, options)
    t.same(alone.tokenIds, together[i]!.tokenIds)
    t.same(alone.logprobs, together[i]!.logprobs)
    if (alone.finishReason !== 'stop') continue
    const { name, age } = JSON.parse(alone.text) as { name: string; age: number }
    t.ok([...name].length <= 30 && age >= 0 && age <= 150, alone.text)
  }
  t.ok(together.some(({ finishReason }) => finishReason === 'stop'))
  let streamed = ''
  for await (const chunk of model.stream(prompts[0]!, options)) streamed += chunk.text
  t.equal(streamed, together[0]!.text)
})
