import t from 'tap'
import { FAMILIES } from '../../lib/families/registry.js'
import { Model } from '../../lib/generation/model.js'
import { loadParts } from '../../lib/load/load.js'
import { resolveLoadOptions } from '../../lib/options/generate.js'
import { withMeasured } from '../../lib/routing/cost.js'
import { measureCosts, vanillaTwin } from '../../lib/routing/measured-cost.js'
import type { Cost } from '../../lib/routing/types.js'
import { directoryWith } from '../checkpoint/files.js'
import { randomOfFamily } from '../reference/random-families.js'
import { goldenCase } from '../support/golden.js'
import { loadSmall, surveyOf } from './surveyed.js'

const CPU = { device: 'cpu', threads: 2, memoryCheck: false } as const
const load = resolveLoadOptions(CPU)

for (const [family, name] of [
  ['moepp', 'gqa'],
  ['moepp', 'mixtral-norm'],
  ['qwen3_moe_plus_plus', 'constant'],
] as const) {
  t.test(`${family}/${name}: each pick of the twin is an FFN expert`, async t => {
    const parts = await loadParts(goldenCase(name, family), load, FAMILIES, vanillaTwin)
    const model = new Model(parts)
    t.teardown(() => model.close())
    const { routing } = await model.forward([1, 2, 3, 4, 5], { logits: false, routing: true })
    for (const { expertIndices, expertWeights, kinds, topK } of routing!.layers) {
      t.ok(expertIndices.every(expert => kinds[expert] === 'ffn'))
      t.ok(expertWeights.every(weight => weight > 0))
      t.equal(expertIndices.length, 5 * topK)
    }
  })
}

t.test('seconds that ceilings allow', async t => {
  const token = { ffnExperts: 1, operations: 600, bytes: 30, predicted: null, measured: null }
  const cost: Cost = { model: token, twin: { ...token, bytes: 60 }, ceilings: null }
  const measured = { model: { prefill: 1, decode: 2 }, twin: { prefill: 3, decode: 4 } }
  const ceilings = { bytesPerSecond: 10, operationsPerSecond: 100 }
  t.same(withMeasured(cost, { ...measured, ceilings }), {
    model: { ...token, predicted: { prefill: 6, decode: 3 }, measured: measured.model },
    twin: { ...token, bytes: 60, predicted: { prefill: 6, decode: 6 }, measured: measured.twin },
    ceilings,
  })
  t.equal(withMeasured(cost, { ...measured, ceilings: null }).model.predicted, null)
})

t.test('a model without zero-computation experts costs as its twin', async t => {
  const small = await loadSmall(goldenCase('sliding-headdim', 'mixtral'))
  t.teardown(() => small.model.close())
  const { subject } = await surveyOf(small, '一丁')
  t.same(subject.cost!.twin, subject.cost!.model)
  t.equal(subject.layers[0]!.router!.ownScores, undefined)
  t.same(subject.findings, [])
})

t.test('what cannot be measured is told', async t => {
  const source = goldenCase('gqa')
  await t.rejects(measureCosts({ source, load: CPU, texts: [new Int32Array(0)] }), {
    name: 'RangeError',
    message: /texts\[0\]/,
  })
  const signal = AbortSignal.abort()
  const texts = [Int32Array.of(1)]
  await t.rejects(measureCosts({ source, load: CPU, texts, signal }), { code: 'ERR_ABORTED' })
  const few = randomOfFamily('qwen3_moe_plus_plus', 1, {
    num_experts: 1,
    num_experts_per_tok: 2,
    zce_nums: [2],
    zce_types: ['copy'],
    use_zce_mask: false,
  })
  const directory = directoryWith(t.testdir(), 'few', few.files)
  await t.rejects(measureCosts({ source: directory, load: CPU, texts }), {
    code: 'ERR_UNSUPPORTED',
    message: /has 1 FFN experts, expected at least 2/,
  })
})

t.test('a model without any expert', async t => {
  const dense = randomOfFamily('qwen3_moe', 2, {
    num_hidden_layers: 2,
    mlp_only_layers: [0, 1],
    decoder_sparse_step: 1,
  })
  const directory = directoryWith(t.testdir(), 'dense', dense.files)
  const small = await loadSmall(directory)
  t.teardown(() => small.model.close())
  await t.rejects(surveyOf(small, '一丁'), {
    code: 'ERR_UNSUPPORTED',
    message: /no layer has experts/,
  })
  const texts = [Int32Array.of(1)]
  await t.rejects(measureCosts({ source: directory, load: CPU, texts }), {
    code: 'ERR_UNSUPPORTED',
  })
})
