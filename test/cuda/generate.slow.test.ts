/**
 * The bundled model on the CUDA device, beside the CPU: same text, same numbers, pages,
 * cancellation, recorded steps.
 */
import './gpu.js'
import { join } from 'node:path'
import t from 'tap'
import type { LoadOptions, Model } from '../../lib/index.js'
import { difference, readJson, root } from '../support/golden.js'
import { onGpu } from './gpu.js'

const { loadModel } = await import('../../lib/index.js')

const directory = join(root, 'models', 'books-7m')
const { greedy } = readJson<{ greedy: { prompt: string; ids: number[] } }>(
  join(directory, 'reference.json'),
)
const small = { contextLength: 256, kvCacheTokens: 512 } satisfies LoadOptions
const cuda = (options: LoadOptions = {}) =>
  loadModel(directory, { ...small, ...options, device: 'cuda' })
const cpu = (options: LoadOptions = {}) =>
  loadModel(directory, { ...small, ...options, device: 'cpu' })

t.test('the greedy text of the reference, in float32', async t => {
  await using model = await cuda({ dtype: 'float32' })
  t.equal(model.device.name, 'cuda:0')
  t.match(model.device.isa, /^sm_\d+$/)
  // An emulated step takes a quarter of a second.
  const ids = onGpu ? greedy.ids : greedy.ids.slice(0, 16)
  const options = { maxNewTokens: ids.length, temperature: 0, ignoreEos: true }
  t.same((await model.generate(greedy.prompt, options)).tokenIds, ids)
})

t.test("the CPU's greedy text, in bfloat16", async t => {
  await using onGpu = await cuda({ dtype: 'bfloat16' })
  await using onCpu = await cpu({ dtype: 'bfloat16' })
  const options = { maxNewTokens: 24, temperature: 0, ignoreEos: true }
  const prompts = ['The old man', 'Once upon a time, in a house by the sea,']
  const texts = async (model: Model) =>
    (await model.generate(prompts, options)).map(({ text }) => text)
  t.same(await texts(onGpu), await texts(onCpu))
})

/**
 * f32 on both devices: sums in another order, and other exp and sin. Errors of a sum of n products
 * grow like eps sqrt(n). The model's longest sum has 1024 terms, its 8 layers add theirs, and
 * logits reach 20: 2^-24 * 32 * 8 * 20 = 3e-4.
 */
const CLOSE = { atol: 3e-4, rtol: 1e-4 }

t.test('logits and router logits are the CPU’s', async t => {
  await using onGpu = await cuda({ dtype: 'float32' })
  await using onCpu = await cpu({ dtype: 'float32' })
  const capture = ['layers.*.router_logits', 'layers.*.expert_indices']
  for (const prompt of ['I', 'It was the best of times, it was the worst of times']) {
    const ids = onCpu.tokenizer!.encode(prompt)
    const got = await onGpu.forward(ids, { capture })
    const want = await onCpu.forward(ids, { capture })
    t.equal(difference(got.logits, want.logits, CLOSE), '', `logits of ${prompt}`)
    for (const [name, values] of Object.entries(want.captured)) {
      t.equal(difference(got.captured[name]!, values, CLOSE), '', `${name} of ${prompt}`)
    }
  }
})

t.test('several texts share the pages of their prompt', async t => {
  await using model = await cuda({ dtype: 'float32' })
  const options = { maxNewTokens: 6, temperature: 0.8, seed: 3, ignoreEos: true }
  const prompt =
    'She opened the door and looked out into the dark garden, where the wind was moving the trees'
  const together = await model.generate(prompt, { ...options, numReturnSequences: 3 })
  t.equal(together.length, 3)
  const alone = await model.generate(prompt, options)
  t.same(together[0]!.tokenIds, alone.tokenIds, 'the first is the one of a single call')
})

t.test('a step that is replayed gives what the first gave', async t => {
  await using model = await cuda({ dtype: 'float32' })
  const options = { maxNewTokens: 8, temperature: 0, ignoreEos: true }
  const first = await model.generate('The sea', options)
  t.same((await model.generate('The sea', options)).tokenIds, first.tokenIds)
})

t.test('an abort ends a generation', async t => {
  await using model = await cuda()
  const abort = new AbortController()
  let tokens = 0
  for await (const _ of model.stream('The old man', {
    maxNewTokens: 100,
    ignoreEos: true,
    signal: abort.signal,
  })) {
    if (++tokens === 3) abort.abort()
  }
  t.ok(tokens < 100)
})
