/**
 * Many texts at once. Steps of decoding are padded on a GPU (lib/model/padding.ts), and results do
 * not show it.
 */
import './gpu.js'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/golden.js'

const { loadModel } = await import('../../lib/index.js')

const directory = join(root, 'models', 'books-7m')
const prompts = 'The old man,She,I have never,In the garden,When,It was,But the sea,Two,Once'.split(
  ',',
)

t.test('nine texts are the CPU’s', async t => {
  const texts = async (device: 'cpu' | 'cuda') => {
    await using model = await loadModel(directory, {
      device,
      dtype: 'float32',
      contextLength: 256,
      kvCacheTokens: 2 * 64 * prompts.length, // a page for each and one to spare: all run at once
    })
    const options = { maxNewTokens: 4, temperature: 0, ignoreEos: true, logprobs: 2 }
    return await Promise.all(prompts.map(prompt => model.generate(prompt, options)))
  }
  const want = await texts('cpu')
  const got = await texts('cuda')
  for (const [i, { tokenIds, logprobs }] of got.entries()) {
    t.same(tokenIds, want[i]!.tokenIds, `the tokens of ${prompts[i]}`)
    const off = logprobs!.map(({ logprob }, step) =>
      Math.abs(logprob - want[i]!.logprobs![step]!.logprob),
    )
    t.ok(Math.max(...off) < 6e-4, `log-probabilities of ${prompts[i]} are off by ${off}`) // twice CLOSE of generate.slow.test.ts
  }
})
