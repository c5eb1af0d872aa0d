/** State files of the CUDA device: pages go to a file and back, and fit no other arithmetic. */
import './gpu.js'
import { join } from 'node:path'
import t from 'tap'
import type { LoadOptions } from '../../lib/index.js'
import { root } from '../support/golden.js'

const { loadModel } = await import('../../lib/index.js')

const directory = join(root, 'models', 'books-7m')
const small = { contextLength: 256, kvCacheTokens: 512 } satisfies LoadOptions
const prompt = Array.from({ length: 75 }, (_, i) => 100 + 23 * i)

for (const kvCacheDtype of ['float32', 'bfloat16'] as const) {
  t.test(`a text goes on from a file, with a ${kvCacheDtype} cache`, async t => {
    const path = join(t.testdir(), 'state.kv')
    const load = (device: 'cuda' | 'cpu') =>
      loadModel(directory, { ...small, kvCacheDtype, device })
    await using first = await load('cuda')
    await using second = await load('cuda')
    t.equal((await first.saveState(path, prompt)).tokens, 75)
    t.same((await second.loadState(path)).tokenIds, prompt)
    const options = { maxNewTokens: 6, temperature: 0, ignoreEos: true, logprobs: 2 }
    const expected = await first.generate(prompt, options)
    const got = await second.generate(prompt, options)
    t.equal(got.usage.cachedTokens, 74)
    t.same([got.tokenIds, got.logprobs], [expected.tokenIds, expected.logprobs])
    await using other = await load('cpu')
    await t.rejects(other.loadState(path), {
      code: 'ERR_BAD_STATE',
      message: /arithmetic is "cuda sm_\w+", this model's is "cpu \w+"/,
    })
  })
}
