/** A model on several ranks: the results of one process, bit by bit. */
import { join } from 'node:path'
import t from 'tap'
import { type GenerateOptions, loadModel, type Model } from '../../lib/index.js'
import { DEVICE_TRAITS, stepTokensOf } from '../../lib/load/device-traits.js'
import { goldenCase, root } from '../support/golden.js'
import { loadGroup } from '../support/group.js'

const BOOKS = join(root, 'models', 'books-7m')
const PROMPTS = ['The old man', 'She said', 'It was', `${'He had been in the town of '.repeat(9)}`]

/** All of a result but what time and the KV cache decide. */
async function texts(model: Model, options: GenerateOptions, prompts: readonly string[] = PROMPTS) {
  const results = await model.generate(prompts, options)
  return results.map(({ timings: _, usage, ...result }) => ({
    ...result,
    generated: usage.generatedTokens,
  }))
}

const OPTIONS: GenerateOptions = {
  maxNewTokens: 10,
  seed: 3,
  temperature: 0.9,
  logprobs: 3,
  routing: true,
  ignoreEos: true,
}

for (const dtype of ['float32', 'int8', 'int4'] as const) {
  t.test(`texts of books-7m in ${dtype}`, async t => {
    await using alone = await loadModel(BOOKS, { device: 'cpu', threads: 1, dtype })
    const expected = await texts(alone, OPTIONS)
    for (const size of [1, 2, 3, 4]) {
      await using group = await loadGroup(BOOKS, size, { dtype })
      t.same(await texts(group.model, OPTIONS), expected, `${size} ranks`)
      const generated = group.models.map(model => model.stats().generatedTokens)
      t.ok(
        generated.every(tokens => tokens > 0),
        `texts at each of ${size} ranks`,
      )
      const sent = group.groups.map(each => each.info().rowsSent)
      t.ok(sent.every(rows => (size === 1 ? rows === 0 : rows > 0)))
    }
  })
}

t.test('forward and score at rank 0 take all ranks', async t => {
  await using alone = await loadModel(BOOKS, { device: 'cpu', threads: 1 })
  await using group = await loadGroup(BOOKS, 3)
  const tokens = alone.tokenizer.encode('The old man and the sea')
  const capture = ['layers.1.router_logits', 'layers.2.moe_output']
  t.same(await group.model.forward(tokens, { capture }), await alone.forward(tokens, { capture }))
  const score = (model: Model) => model.score('The old', ' man and the sea')
  t.same(await score(group.model), await score(alone))
})

t.test('a long prompt takes no more of a step than its part', async t => {
  await using group = await loadGroup(BOOKS, 2)
  const tokens = Array.from({ length: 600 }, (_, i) => 3 + (i % 2000))
  await group.model.generate(tokens, { maxNewTokens: 1 })
  const { lastStepTokens, steps } = group.model.stats()
  t.match({ lastStepTokens, steps }, { lastStepTokens: 600 - 2 * 256, steps: 3 })
  const sizes = [1, 2, 3, 100].map(ranks => stepTokensOf(DEVICE_TRAITS.cpu, ranks))
  t.same(sizes, [512, 256, 171, 128])
})

const CASES = [
  ['moepp', 'odd-sizes'],
  ['qwen3_moe', 'dense-mixed'],
  ['qwen3_moe_plus_plus', 'zero-copy-no-norm'],
  ['mixtral', 'tied-defaults'],
  ['glm4_moe_lite_plus_plus', 'constant-dense-last'],
  ['longcat_flash', 'strong-bias'],
] as const

for (const [family, name] of CASES) {
  t.test(`${family} ${name} on ranks with unequal numbers of experts`, async t => {
    const directory = goldenCase(name, family)
    await using alone = await loadModel(directory, { device: 'cpu', threads: 1 })
    const tokens = [5, 3, 9, 7, 2, 11, 4]
    const expected = await alone.forward(tokens)
    for (const size of [2, 3]) {
      await using group = await loadGroup(directory, size)
      t.same(await group.model.forward(tokens), expected, `${size} ranks`)
    }
  })
}
