/** States of real models: texts go on with the same bits, and only in the model that they fit. */
import { copyFileSync, cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { convertCheckpoint } from '../../lib/convert/convert.js'
import { type LoadOptions, loadModel } from '../../lib/index.js'
import { devices } from '../support/devices.js'
import { type Family, goldenCase } from '../support/golden.js'

interface Case {
  readonly family: Family
  readonly name: string
  readonly options?: LoadOptions
  /** Of these texts. Default 150. */
  readonly lengths?: readonly number[]
}

/**
 * The pages have 64 tokens. Each way of rotating keys, gating residuals, sliding windows, heads of
 * several sizes, latents, and both types of the cache.
 */
const CASES: readonly Case[] = [
  { family: 'moepp', name: 'two-layer-gate', options: { kvCacheDtype: 'bfloat16' } },
  { family: 'moepp', name: 'gqa', options: { dtype: 'int8' }, lengths: [64, 150] },
  { family: 'moepp', name: 'odd-sizes', options: { dtype: 'int4-all', kvCacheDtype: 'float32' } },
  { family: 'moepp', name: 'real7b-bf16', options: { activationDtype: 'bfloat16' } },
  { family: 'moepp', name: 'rope-dynamic-crossing', lengths: [18, 70] },
  { family: 'moepp', name: 'rope-linear' },
  { family: 'moepp', name: 'rope-ntk' },
  { family: 'qwen3_moe', name: 'rope-yarn' },
  { family: 'qwen3_moe', name: 'sliding-window', options: { kvCacheDtype: 'bfloat16' } },
  { family: 'qwen3_moe_plus_plus', name: 'zero' },
  { family: 'qwen3_moe_plus_plus', name: 'constant', options: { dtype: 'int4' } },
  { family: 'mixtral', name: 'sliding-headdim' },
  { family: 'glm4_moe_lite_plus_plus', name: 'copy-groups-yarn', lengths: [64, 150] },
  { family: 'glm4_moe_lite', name: 'vanilla-bf16', options: { dtype: 'int4' } },
  { family: 'longcat_flash', name: 'strong-bias', options: { dtype: 'int8' } },
  { family: 'longcat_flash_ngram', name: 'ngram-eos' },
]

const generate = { maxNewTokens: 30, ignoreEos: true, temperature: 0, logprobs: 2 }

for (const { family, name, options, lengths = [150] } of CASES) {
  t.test(`${family}/${name} ${JSON.stringify(options ?? {})}`, async t => {
    const load = () => loadModel(goldenCase(name, family), { device: 'cpu', ...options })
    await using first = await load()
    await using second = await load()
    const { vocabSize } = first.config
    for (const [n, length] of lengths.entries()) {
      const path = join(t.testdir(), `${n}.kv`)
      const prompt = Array.from({ length }, (_, i) => (31 * n + 17 * i + 3) % vocabSize)
      const begun = await first.generate(prompt, generate)
      const text = [...prompt, ...begun.tokenIds]
      const saved = await first.saveState(path, text)
      t.equal(saved.tokens, text.length)
      t.same((await second.loadState(path)).tokenIds, text)
      // The same prompt: keys of dynamic rotations depend on its length.
      const [expected, got] = [first, second].map(model => model.generate(text, generate))
      const { tokenIds, logprobs, usage } = await got!
      t.equal(usage.cachedTokens, text.length - 1)
      t.same(tokenIds, (await expected!).tokenIds)
      t.same(logprobs, (await expected!).logprobs, 'the same bits')
    }
    t.equal(second.stats().kvPagesUsed, 0)
  })
}

t.test('a text goes on with the logits of a model that computed all of it', async t => {
  const path = join(t.testdir(), 'state.kv')
  const load = () => loadModel(goldenCase('config-defaults'), { device: 'cpu' })
  await using first = await load()
  await using second = await load()
  await using fresh = await load()
  const { vocabSize } = first.config
  const prompt = Array.from({ length: 200 }, (_, i) => (19 * i + 5) % vocabSize)
  await first.saveState(path, prompt.slice(0, 133))
  await second.loadState(path)
  const [got, expected] = await Promise.all([
    second.generate(prompt, generate),
    fresh.generate(prompt, generate),
  ])
  t.equal(got.usage.cachedTokens, 133)
  t.equal(expected.usage.cachedTokens, 0)
  t.same([got.tokenIds, got.logprobs], [expected.tokenIds, expected.logprobs])
})

t.test('a state fits one model, in one form', async t => {
  const folder = t.testdir()
  const path = join(folder, 'state.kv')
  const original = goldenCase('config-defaults')
  await using model = await loadModel(original, { device: 'cpu' })
  await model.saveState(path, [1, 2, 3])
  const refuses = async (source: string, field: RegExp, options: LoadOptions = {}) => {
    await using other = await loadModel(source, { device: 'cpu', ...options })
    await t.rejects(other.loadState(path), { code: 'ERR_BAD_STATE', message: field }, `${field}`)
    t.equal(other.stats().kvPagesCached, 0)
  }
  const copy = (name: string) => {
    cpSync(original, join(folder, name), { recursive: true })
    return join(folder, name)
  }
  await refuses(original, /: dtype is "float32", this model's is "int8"/, { dtype: 'int8' })
  await refuses(original, /: kvCacheDtype is "f32", this model's is "bf16"/, {
    kvCacheDtype: 'bfloat16',
  })
  await refuses(goldenCase('n12-legacy'), /: config is "/)
  await refuses(goldenCase('gqa-headdim', 'qwen3_moe'), /: family is "moepp", this model's is/)
  const isa = devices().find(name => name !== model.device.isa)
  t.ok(isa, 'there is another instruction set')
  if (isa) await refuses(original, /: arithmetic is "cpu /, { isa: isa as never })

  const finer = join(copy('finer'), 'model.safetensors')
  const weights = readFileSync(finer)
  weights[weights.length - 2]! ^= 1
  writeFileSync(finer, weights)
  await refuses(join(folder, 'finer'), /: weights is "/)
  const turned = join(copy('turned'), 'config.json')
  const config = JSON.parse(readFileSync(turned, 'utf8'))
  writeFileSync(turned, JSON.stringify({ ...config, rope_theta: 20000 }))
  await refuses(join(folder, 'turned'), /: config is "/)
  await convertCheckpoint(original, join(folder, 'int8'), { dtype: 'int8' })
  await using quantised = await loadModel(original, { device: 'cpu', dtype: 'int8' })
  await quantised.saveState(path, [1, 2, 3])
  await refuses(join(folder, 'int8'), /: weights is "/)

  // The same files elsewhere are the same model.
  await using same = await loadModel(copy('same'), { device: 'cpu', dtype: 'int8' })
  t.equal((await same.loadState(path)).tokens, 3)
})

t.test('a checkpoint that is gone', async t => {
  const folder = t.testdir({ model: {} })
  for (const file of ['config.json', 'model.safetensors'])
    copyFileSync(join(goldenCase('config-defaults'), file), join(folder, 'model', file))
  await using model = await loadModel(join(folder, 'model'), { device: 'cpu' })
  writeFileSync(join(folder, 'model', 'model.safetensors'), 'short')
  await t.rejects(model.saveState(join(folder, 'state.kv'), [1]), { code: 'ERR_BAD_FILE' })
  copyFileSync(
    join(goldenCase('config-defaults'), 'model.safetensors'),
    join(folder, 'model', 'model.safetensors'),
  )
  t.equal((await model.saveState(join(folder, 'state.kv'), [1])).tokens, 1, 'it is read again')
})
