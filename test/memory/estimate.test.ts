/** The memory that a model needs, and the refusal of one that does not fit. */
import { join } from 'node:path'
import t from 'tap'
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { convertCheckpoint } from '../../lib/convert/convert.js'
import { readModel } from '../../lib/families/registry.js'
import { estimateMemory, loadModel } from '../../lib/index.js'
import { availableMemory } from '../../lib/load/available-memory.js'
import { checkMemory, estimate } from '../../lib/load/memory-estimate.js'
import { planLoad } from '../../lib/load/plan.js'
import { type LoadOptions, resolveLoadOptions } from '../../lib/options/generate.js'
import { float8Twins } from '../support/float8.js'
import { root } from '../support/golden.js'

const books = join(root, 'models', 'books-7m')
const MIB = 2 ** 20

async function planOf(options: LoadOptions, directory = books) {
  const checkpoint = await openCheckpoint(directory)
  const all = resolveLoadOptions({ device: 'cpu', threads: 2, ...options })
  return planLoad(await readModel(directory), checkpoint, all)
}
const cpu = (availableMib: number) => ({ name: 'cpu', availableBytes: availableMib * MIB })

t.test('estimateMemory: the parts and their sum', async t => {
  const e = await estimateMemory(books, { device: 'cpu', threads: 2, kvCacheTokens: 1000 })
  t.match(e, { device: 'cpu', dtype: 'bfloat16', kvCacheDtype: 'float32', contextLength: 4096 })
  t.equal(e.kvCacheTokens, 1024, 'whole pages')
  t.equal(e.kvCacheBytes, 2 * 6 * 192 * 1024 * 4)
  t.equal(e.mappedBytes, 0)
  t.equal(e.totalBytes, e.weightBytes + e.kvCacheBytes + e.stepBytes)
  t.equal(e.requiredBytes, e.totalBytes)
  t.equal(e.fits, e.requiredBytes <= e.availableBytes)
  t.ok(e.availableBytes < 2 * availableMemory())
  const int8 = await estimateMemory(books, { device: 'cpu', dtype: 'int8' })
  t.match(int8, { dtype: 'int8', kvCacheDtype: 'bfloat16', kvCacheTokens: 8192 })
  t.ok(int8.weightBytes < e.weightBytes)
  const threads = await estimateMemory(books, { device: 'cpu', threads: 12 })
  t.equal(threads.stepBytes - e.stepBytes, 10 * 2 * MIB)
})

t.test('estimateMemory: what loadModel would refuse', async t => {
  await t.rejects(estimateMemory(join(root, 'native')), { code: 'ERR_NOT_FOUND' })
  await t.rejects(estimateMemory(books, { dtype: 'int2' } as never), { name: 'RangeError' })
  const huge = await estimateMemory(books, { device: 'cpu', kvCacheTokens: 2 ** 40 })
  t.equal(huge.fits, false)
})

t.test(
  'a default cache on a CPU counts for 4096 tokens, one that was asked for in full',
  async t => {
    const perToken = 2 * 6 * 192 * 4
    const required = async (options: LoadOptions) => {
      const { kvCacheTokens, totalBytes, requiredBytes } = estimate(await planOf(options), cpu(60))
      return [kvCacheTokens, totalBytes - requiredBytes]
    }
    t.same(await required({}), [8192, 4096 * perToken])
    t.same(await required({ kvCacheTokens: 8192 }), [8192, 0])
    t.same(await required({ contextLength: 8192 }), [8192, 0])
    t.same(await required({ contextLength: 1024 }), [8192, 0])
    t.same(await required({ kvCacheTokens: 1024 }), [1024, 0])
    const plan = await planOf({})
    t.doesNotThrow(() => checkMemory(plan, cpu(60)), 'it may never use the other 4096')
    const asked = await planOf({ kvCacheTokens: 8192 })
    t.throws(() => checkMemory(asked, cpu(60)), { message: /KV cache of 8192 tokens/ })
  },
)

t.test('a GPU: its free memory, its largest step, a cache in bfloat16', async t => {
  const gpu = { name: 'cuda:0', availableBytes: 3 * 2 ** 30 }
  const plan = await planOf({})
  const e = estimate(plan, gpu)
  t.equal(e.requiredBytes, e.weightBytes + e.kvCacheBytes)
  t.match(e, { device: 'cuda:0', kvCacheDtype: 'bfloat16', fits: true })
  // Of `forward` with 2048 tokens. test/cuda/memory.slow.test.ts compares with what a device takes.
  const others = e.stepBytes - 2048 * 4 * plan.description.config.vocabSize
  t.ok(others > 128 * MIB && others < 192 * MIB, `${others} bytes besides the logits`)
  const config = { ...plan.description.config, vocabSize: 151_669 }
  const large = estimate({ ...plan, description: { ...plan.description, config } }, gpu)
  const logits = large.stepBytes - others
  t.ok(logits > 511 * MIB && logits <= 512 * MIB, `${logits} bytes of logits at most`)
})

t.test('packed weights are mapped and need not fit', async t => {
  const packed = join(t.testdir(), 'packed')
  await convertCheckpoint(books, packed, { dtype: 'int4' })
  const plan = await planOf({ kvCacheTokens: 512 }, packed)
  const e = estimate(plan, cpu(1))
  t.ok(e.mappedBytes > 0.4 * e.weightBytes)
  t.equal(e.requiredBytes, e.totalBytes - e.mappedBytes)
  t.doesNotThrow(() => checkMemory(plan, { ...cpu(1), availableBytes: e.requiredBytes }))
  t.throws(() => checkMemory(plan, { ...cpu(1), availableBytes: e.requiredBytes - 1 }), {
    code: 'ERR_OUT_OF_MEMORY',
    message: /are missing\. No dtype would fit\./,
  })
  t.equal(estimate(plan, { ...cpu(1), name: 'cuda:0' }).mappedBytes, 0)
})

t.test('the refusal says what is missing, and what would fit', async t => {
  const plan = await planOf({})
  const e = estimate(plan, cpu(0))
  t.doesNotThrow(() => checkMemory(plan, { ...cpu(0), availableBytes: e.requiredBytes }))
  t.throws(() => checkMemory(plan, cpu(50)), {
    code: 'ERR_OUT_OF_MEMORY',
    message: new RegExp(
      '^the model does not fit on cpu: it needs 5\\d\\.\\d MiB \\(weights in bfloat16 13\\.4 MiB, ' +
        'KV cache of 4096 tokens in float32 36\\.0 MiB, a step \\d\\.\\d MiB\\), ' +
        '50\\.0 MiB are available, \\d\\.\\d MiB are missing\\. ' +
        "These would fit: kvCacheTokens: \\d+; dtype: 'int8' \\(3\\d\\.\\d MiB\\)\\. " +
        'memoryCheck: false loads it anyway$',
    ),
  })
  t.throws(() => checkMemory(plan, cpu(27)), { message: /would fit: kvCacheTokens: 704\./ })
  t.throws(() => checkMemory(plan, cpu(22)), { message: /would fit: dtype: 'int8' with kvCache/ })
  t.throws(() => checkMemory(plan, cpu(3)), { message: /No dtype would fit/ })
})

t.test('what it says would fit does fit', async t => {
  const plan = await planOf({})
  for (const place of [20, 22, 30, 40, 50].map(cpu)) {
    const message = t.throws(() => checkMemory(plan, place)) as unknown as Error
    const said = /These would fit: (.*)\. memoryCheck/.exec(message.message)![1]!
    for (const remedy of said.split('; ')) {
      const [, tokens] = /kvCacheTokens: (\d+)/.exec(remedy) ?? []
      const [, dtype] = /dtype: '(\w+)'/.exec(remedy) ?? []
      t.ok(tokens ?? dtype, remedy)
      const options = {
        ...(tokens && { kvCacheTokens: Number(tokens) }),
        ...(dtype && { dtype: dtype as 'int8' }),
      }
      t.ok(estimate(await planOf(options), place).fits, `${place.availableBytes}: ${remedy}`)
    }
  }
})

t.test('loadModel refuses before it reads', async t => {
  let progress = 0
  const options = { device: 'cpu', onProgress: () => void progress++ } as const
  for (const more of [{ kvCacheTokens: 2 ** 40 }, { contextLength: 2 ** 31 - 1 }]) {
    await t.rejects(loadModel(books, { ...options, ...more }), {
      code: 'ERR_OUT_OF_MEMORY',
      message: /^the model does not fit on cpu: .* are missing\. These would fit: kvCacheTokens/,
    })
  }
  t.equal(progress, 0)
  const forced = { ...options, kvCacheTokens: 2 ** 50, memoryCheck: false }
  // The allocation itself fails, but the weights have been read.
  await t.rejects(loadModel(books, forced), { code: 'ERR_OUT_OF_MEMORY', message: /kv cache/ })
  t.ok(progress > 0)
})

t.test('float8 is bfloat16 on the CPU, and stays float8 on a GPU', async t => {
  const { float8 } = await float8Twins(books, t.testdir(), 'BF16')
  const gpu = { name: 'cuda:0', availableBytes: 10 ** 10 }
  const plan = await planOf({}, float8)
  const [onCpu, onGpu] = [estimate(plan, cpu(60)), estimate(plan, gpu)]
  t.match([onCpu.dtype, onGpu.dtype], ['bfloat16', 'float8'])
  t.match([onCpu.kvCacheDtype, onGpu.kvCacheDtype], ['float32', 'bfloat16'])
  // 192 inputs are two blocks of 128 bytes, each with a scale of 4.
  const rows = 6 * (4 * 192 + 8 * 3 * 192)
  t.equal(onCpu.weightBytes - onGpu.weightBytes, rows * (2 * 192 - 2 * 132))
  const asked = await planOf({ dtype: 'bfloat16' }, float8)
  t.equal(estimate(asked, gpu).dtype, 'bfloat16')
  t.throws(() => checkMemory(plan, { ...gpu, availableBytes: 0 }), {
    code: 'ERR_OUT_OF_MEMORY',
    message: /weights in float8 .*No dtype would fit/,
  })
})
