/**
 * The bundled model through the whole path: what the engine promises holds bitwise with the real
 * kernels.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { loadModel } from '../../lib/load/load.js'
import { root } from '../support/golden.js'

const directory = join(root, 'models', 'books-7m')
const { greedy } = JSON.parse(readFileSync(join(directory, 'reference.json'), 'utf8'))
const beginnings = [
  'The old man',
  'She said',
  'The old man and the sea',
  'It was',
  'He had been in the town of',
]
const prompts = [
  ...beginnings,
  ...beginnings.map(text => `${text} `.repeat(12)),
  ...beginnings.map(text => `${text} `.repeat(40)),
]
const sampled = { maxNewTokens: 40, temperature: 1, seed: 11, ignoreEos: true }

t.test('greedy text equals the reference, also from a cached prefix', async t => {
  await using model = await loadModel(directory, { device: 'cpu', dtype: 'float32' })
  for (const cachedTokens of [0, greedy.prompt_ids.length - 1]) {
    const result = await model.generate(greedy.prompt, {
      maxNewTokens: greedy.ids.length,
      ignoreEos: true,
    })
    t.same(result.tokenIds, greedy.ids)
    t.equal(result.text.trim(), greedy.text)
    t.equal(result.usage.cachedTokens, cachedTokens)
  }
  const { routing } = await model.generate(greedy.prompt, { routing: true, maxNewTokens: 64 })
  t.ok(routing!.ffnExpertsPerToken > 0.8 && routing!.ffnExpertsPerToken < 1.4)
})

t.test(
  'batched, alone and preempted: the same text, and the same logits in any chunks',
  async t => {
    await using roomy = await loadModel(directory, { device: 'cpu', dtype: 'bfloat16' })
    await using tight = await loadModel(directory, {
      device: 'cpu',
      dtype: 'bfloat16',
      kvCacheTokens: 640,
    })
    const batch = await roomy.generate(prompts, sampled)
    const preempted = await tight.generate(prompts, sampled)
    for (const [i, { tokenIds }] of batch.entries()) {
      t.same(preempted[i]!.tokenIds, tokenIds)
      t.same((await tight.generate(prompts[i]!, sampled)).tokenIds, tokenIds)
    }
    const ids = [...roomy.tokenizer.encode(prompts.at(-1)!), ...batch.at(-1)!.tokenIds]
    const [alone, together] = await Promise.all([
      tight.forward(ids),
      roomy.forward([ids.slice(0, 50), ids, ids.slice(0, 300)]),
    ])
    t.ok(Buffer.from(alone.logits.buffer).equals(Buffer.from(together[1]!.logits.buffer)))
  },
)

t.test(
  'the largest logits give the tokens that whole rows give, and their log-probabilities',
  async t => {
    await using model = await loadModel(directory, { device: 'cpu' })
    const wholeRows = { logitBias: { 7: 1e-30 } } // may raise a logit, as far as anyone knows, and changes none
    for (const options of [
      { temperature: 0 },
      { ...sampled, logprobs: 3 },
      { ...sampled, temperature: 2.5, topK: 200, topP: 0.97, typicalP: 0.9 },
      { ...sampled, repetitionPenalty: 1.3, noRepeatNgramSize: 3, frequencyPenalty: 0.5 },
      { ...sampled, topK: 255, repetitionPenalty: 8 },
    ]) {
      const call = { maxNewTokens: 60, ...options }
      const [largest, whole] = await Promise.all([
        model.generate(beginnings, call),
        model.generate(beginnings, { ...call, ...wholeRows }),
      ])
      for (const [i, { tokenIds, logprobs = [] }] of largest.entries()) {
        t.same(tokenIds, whole[i]!.tokenIds, JSON.stringify(call))
        for (const [n, got] of logprobs.entries()) {
          const expected = whole[i]!.logprobs![n]!
          t.same(
            got.top.map(each => each.tokenId),
            expected.top.map(each => each.tokenId),
          )
          // The bound that TopLogits states, with a mean distance of at most 16.
          t.ok(Math.abs(got.logprob - expected.logprob) < 2 ** -19)
        }
      }
    }
  },
)
