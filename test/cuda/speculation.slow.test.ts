/**
 * Guesses change no bit on a GPU either: there are as many as leave a step with the kernels of one
 * token.
 */
import './gpu.js'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/golden.js'

const { loadModel } = await import('../../lib/index.js')
const { content } = await import('../generation/compare-guesses.js')

const directory = join(root, 'models', 'books-7m')
// More than one chunk of 64 keys. Then come zeros.
const prompt = '1, 2, 1, 2, '.repeat(8)

for (const [dtype, tokens] of [
  ['float32', 8],
  ['bfloat16', 8],
  ['int8', 4],
  ['int4', 2],
] as const) {
  t.test(dtype, async t => {
    await using model = await loadModel(directory, {
      device: 'cuda',
      dtype,
      contextLength: 256,
      kvCacheTokens: 512,
    })
    const options = { temperature: 0, logprobs: 2, ignoreEos: true, maxNewTokens: 9 }
    // Later calls find all but the last token of the prompt in the cache, with the same bits.
    await model.generate(prompt, { maxNewTokens: 1 })
    const expected = await model.generate(prompt, options)
    const result = await model.generate(prompt, { ...options, speculate: { ngram: 1, tokens: 20 } })
    t.same(content(result), content(expected))
    const { draftedTokens, acceptedTokens } = result.usage
    t.ok(draftedTokens! >= tokens - 1 && acceptedTokens! > 0, `${acceptedTokens} came`)
  })
}
