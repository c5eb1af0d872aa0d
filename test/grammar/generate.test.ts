/** The option `grammar` of generate and stream. */
import t, { type Test } from 'tap'
import type { GenerateOptions } from '../../lib/options/generate.js'
import type { Grammar } from '../../lib/options/grammar.js'
import { fakeModel, tokenizer } from '../generation/fake-model.js'

const PROMPT = 'The old man'
const QUOTE = tokenizer.tokenToId('"')!
/** So that strings end before the context does. */
const logitBias = { [QUOTE]: 3 }
const sampled: GenerateOptions = { temperature: 1, topK: 0, logitBias, maxNewTokens: 150, seed: 5 }

const person: Grammar = {
  jsonSchema: {
    type: 'object',
    properties: {
      name: { type: 'string', maxLength: 12 },
      age: { type: 'integer', minimum: 0, maximum: 120 },
      kind: { enum: ['a', 'b'] },
    },
    required: ['name', 'age', 'kind'],
  },
}

const { model } = fakeModel({ pages: 100 })
t.teardown(() => model.close())

interface Person {
  name: string
  age: number
  kind: string
}

function checkPerson(t: Test, text: string): void {
  const { name, age, kind } = JSON.parse(text) as Person
  t.ok([...name].length <= 12 && age >= 0 && age <= 120 && /^[ab]$/.test(kind), text)
}

t.test('the text has the form, whatever the logits are', async t => {
  for (let seed = 0; seed < 10; seed++) {
    const { text, finishReason } = await model.generate(PROMPT, {
      ...sampled,
      seed,
      grammar: person,
    })
    t.equal(finishReason, 'stop')
    checkPerson(t, text)
  }
  const { text } = await model.generate(PROMPT, { grammar: person, maxNewTokens: 150, logitBias })
  checkPerson(t, text)
})

t.test('alone, in a batch, or as a stream: the same', async t => {
  const prompts = [PROMPT, 'She said', 'A', 'Once upon a time']
  const options = { ...sampled, grammar: person, logprobs: 1 }
  const together = await model.generate(prompts, options)
  for (const [i, prompt] of prompts.entries()) {
    const alone = await model.generate(prompt, options)
    t.same(alone.tokenIds, together[i]!.tokenIds)
    t.same(alone.logprobs, together[i]!.logprobs)
  }
  const stream = model.stream(PROMPT, options)
  let text = ''
  for await (const chunk of stream) text += chunk.text
  t.equal(text, together[0]!.text)
  const several = await model.generate(PROMPT, {
    ...sampled,
    grammar: person,
    numReturnSequences: 4,
  })
  t.equal(several[0]!.text, text)
  t.equal(new Set(several.map(each => each.text)).size, 4)
  for (const each of several) checkPerson(t, each.text)
})
