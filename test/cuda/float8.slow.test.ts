/** float8 on the CUDA device: held as it is stored, and near the model that it stands for. */
import './gpu.js'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/golden.js'

const { estimateMemory, loadModel } = await import('../../lib/index.js')
const { float8Twins } = await import('../support/float8.js')

const books = join(root, 'models', 'books-7m')
const small = { contextLength: 256, kvCacheTokens: 512, device: 'cuda' } as const

t.test('a checkpoint of float8 stays so, and gives the logits of its values', async t => {
  const { float8, float32 } = await float8Twins(books, t.testdir(), 'F32')
  const [kept, wide] = await Promise.all([
    estimateMemory(float8, small),
    estimateMemory(float8, { ...small, dtype: 'bfloat16' }),
  ])
  t.match([kept.dtype, wide.dtype], ['float8', 'bfloat16'])
  t.match([kept.kvCacheDtype, wide.kvCacheDtype], ['bfloat16', 'bfloat16'])
  t.ok(kept.weightBytes < 0.75 * wide.weightBytes)
  await using model = await loadModel(float8, small)
  await using twin = await loadModel(float32, { ...small, kvCacheDtype: 'bfloat16' })
  t.equal(model.device.name, 'cuda:0')
  for (const text of ['The', 'The old man went down to the sea, and his boat was gone.']) {
    const ids = model.tokenizer!.encode(text)
    const [got, want] = await Promise.all([model.forward(ids), twin.forward(ids)])
    const most = Math.max(...want.logits.map((x, i) => Math.abs(x - got.logits[i]!)))
    // Tensor cores round activations to bf16, for more than a few tokens.
    t.ok(most < (ids.length > 4 ? 0.3 : 1e-3), `${ids.length} tokens: ${most}`)
  }
  const options = { maxNewTokens: 6, temperature: 0, ignoreEos: true }
  const { tokenIds } = await model.generate('The old man', options)
  t.equal(tokenIds.length, 6)
})
