/**
 * int8 and int4 on the CUDA device: quantised while loading and from a packed file, and near the
 * model that they stand for.
 */
import './gpu.js'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/golden.js'

const { loadModel } = await import('../../lib/index.js')
const { convertCheckpoint } = await import('../../lib/convert/convert.js')

const books = join(root, 'models', 'books-7m')
const small = { contextLength: 256, kvCacheTokens: 512 } as const

/** Mean KL divergence of `got` from `want`, rows of V logits. */
function divergence(want: Float32Array, got: Float32Array, V: number): number {
  let sum = 0
  for (let row = 0; row < want.length; row += V) {
    const [p, q] = [want, got].map(logits => logProbabilities(logits.subarray(row, row + V))) as [
      number[],
      number[],
    ]
    sum += p.reduce((total, x, i) => total + Math.exp(x) * (x - q[i]!), 0)
  }
  return sum / (want.length / V)
}

function logProbabilities(logits: Float32Array): number[] {
  const most = Math.max(...logits)
  const total = Math.log(logits.reduce((sum, x) => sum + Math.exp(x - most), 0)) + most
  return Array.from(logits, x => x - total)
}

/**
 * Ten times what the CPU's kernels cost on the held-out text (bench/README.md, "Quality"): a few
 * tokens scatter.
 */
const MOST_DIVERGENCE = { int8: 0.01, int4: 0.07, 'int4-all': 0.17 }

for (const dtype of ['int8', 'int4', 'int4-all'] as const) {
  t.test(dtype, async t => {
    const packed = join(t.testdir(), 'packed')
    await convertCheckpoint(books, packed, { dtype })
    await using exact = await loadModel(books, { ...small, device: 'cpu', dtype: 'float32' })
    await using loaded = await loadModel(books, { ...small, device: 'cuda', dtype })
    await using mapped = await loadModel(packed, { ...small, device: 'cuda' })
    t.equal(loaded.device.name, 'cuda:0')
    const V = exact.config.vocabSize
    for (const text of ['The', 'The old man went down to the sea, and his boat was gone.']) {
      const ids = exact.tokenizer!.encode(text)
      const [want, got, again] = await Promise.all(
        [exact, loaded, mapped].map(model => model.forward(ids)),
      )
      t.same(again!.logits, got!.logits, 'a packed file gives the same bits')
      const kl = divergence(want!.logits, got!.logits, V)
      t.ok(kl > 0 && kl < MOST_DIVERGENCE[dtype], `KL ${kl} over ${ids.length} tokens`)
    }
    const options = { maxNewTokens: 6, temperature: 0, ignoreEos: true }
    const { tokenIds } = await loaded.generate('The old man', options)
    t.equal(tokenIds.length, 6)
    t.same((await mapped.generate('The old man', options)).tokenIds, tokenIds)
  })
}
