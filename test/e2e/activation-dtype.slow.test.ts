/** activationDtype: what it changes, on which instruction sets, and what it leaves. */
import { join } from 'node:path'
import t from 'tap'
import { loadBinding } from '../../lib/addon/binding.js'
import { loadModel } from '../../lib/load/load.js'
import type { Isa, LoadOptions } from '../../lib/options/generate.js'
import { goldenCase, root } from '../support/golden.js'

const books = join(root, 'models', 'books-7m')
const isas = loadBinding().processor().isas as Isa[]
/** Those that have products of bf16 pairs. */
const ROUNDS: readonly Isa[] = ['avx512bf16', 'neonbf16']
const PROMPT = [1, ...Array.from({ length: 70 }, (_, i) => 3 + ((i * 7919) % 2000))]

async function logitsOf(options: LoadOptions, tokens = PROMPT): Promise<Float32Array> {
  await using model = await loadModel(books, { threads: 2, ...options })
  return (await model.forward(tokens)).logits
}

function sameBits(a: Float32Array, b: Float32Array): boolean {
  const bits = (x: Float32Array) => Buffer.from(x.buffer, x.byteOffset, x.byteLength)
  return bits(a).equals(bits(b))
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  return a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0)
}

t.test('products are rounded on the set that has them, exact on all others', async t => {
  for (const isa of isas) {
    const exact = await logitsOf({ isa, kvCacheDtype: 'bfloat16' })
    const rounded = await logitsOf({ isa, activationDtype: 'bfloat16' })
    const difference = largestDifference(exact, rounded)
    if (ROUNDS.includes(isa)) {
      t.ok(difference > 1e-4 && difference < 0.5, `${isa}: logits differ by up to ${difference}`)
    } else {
      t.equal(difference, 0, `${isa}: the same bits over the same cache`)
    }
  }
})

t.test('the cache is bfloat16 unless it is named', async t => {
  const isa = isas[0]!
  const rounded = await logitsOf({ isa, activationDtype: 'bfloat16' })
  const withCache = (kvCacheDtype: 'float32' | 'bfloat16') =>
    logitsOf({ isa, activationDtype: 'bfloat16', kvCacheDtype })
  t.ok(sameBits(await withCache('bfloat16'), rounded))
  t.notOk(sameBits(await withCache('float32'), rounded))
})

t.test('a row does not depend on the rows beside it', async t => {
  for (const isa of isas) {
    await using model = await loadModel(books, { isa, threads: 2, activationDtype: 'bfloat16' })
    const { logits } = await model.forward(PROMPT)
    const { vocabSize } = model.config
    for (const count of [1, 2, 7, 9, 30]) {
      const part = await model.forward(PROMPT.slice(0, count))
      t.ok(
        sameBits(part.logits, logits.subarray(0, count * vocabSize)),
        `${isa}: the first ${count}`,
      )
    }
    const options = { maxNewTokens: 12, ignoreEos: true }
    const prompts = [PROMPT.slice(0, 5), PROMPT.slice(0, 20), PROMPT]
    const together = await model.generate(prompts, options)
    for (const [i, prompt] of prompts.entries()) {
      await using fresh = await loadModel(books, { isa, threads: 1, activationDtype: 'bfloat16' })
      t.same(
        (await fresh.generate(prompt, options)).tokenIds,
        together[i]!.tokenIds,
        `${isa}: prompt ${i}`,
      )
    }
  }
})

t.test('it is for matrices in bfloat16', async t => {
  for (const dtype of ['float32', 'int8', 'int4'] as const) {
    await t.rejects(loadModel(books, { dtype, activationDtype: 'bfloat16' }), {
      code: 'ERR_UNSUPPORTED',
      message: `activationDtype: expected "auto" for matrices in ${dtype}, got "bfloat16"; it rounds the inputs of bfloat16 matrices only`,
    })
  }
  const f32 = goldenCase('gqa')
  await t.rejects(loadModel(f32, { activationDtype: 'bfloat16' }), { code: 'ERR_UNSUPPORTED' })
  await using model = await loadModel(f32, { dtype: 'bfloat16', activationDtype: 'bfloat16' })
  t.equal(
    (await model.generate([1, 2, 3], { maxNewTokens: 3, ignoreEos: true })).tokenIds.length,
    3,
  )
})
