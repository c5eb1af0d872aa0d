import t from 'tap'
import { loadBinding } from '../../lib/addon/binding.js'
import { peakFor } from '../../lib/benchmark/ceilings.js'
import { parseWorkloads, sequenceTokens } from '../../lib/benchmark/workload.js'
import { recordModel } from '../../lib/families/record.js'
import { describeModel } from '../../lib/families/registry.js'
import { MATRIX_TYPES } from '../../lib/options/load.js'
import type { MatrixDType } from '../../lib/program/model-builder.js'
import { bytesOfStep, operationsOfPrefill } from '../../lib/program/model-spec.js'
import { listedCheckpoint } from '../support/listed-checkpoint.js'

const MODEL_7B = describeModel(
  {
    model_type: 'MoE++',
    moe_2layer_gate: false,
    vocab_size: 65536,
    hidden_size: 1536,
    intermediate_size: 4096,
    num_hidden_layers: 24,
    num_attention_heads: 16,
    num_experts: [20],
    torch_dtype: 'bfloat16',
  },
  '7b',
)

t.test('names of workloads', async t => {
  t.match(parseWorkloads('pp512, tg128@32,tg64@512x16,pp128x4,tg8'), [
    { name: 'pp512', kind: 'prefill', tokens: 512, context: 0, batch: 1 },
    { name: 'tg128@32', kind: 'decode', tokens: 128, context: 32, batch: 1 },
    { name: 'tg64@512x16', kind: 'decode', tokens: 64, context: 512, batch: 16 },
    { name: 'pp128x4', kind: 'prefill', tokens: 128, context: 0, batch: 4 },
    { name: 'tg8', kind: 'decode', tokens: 8, context: 1, batch: 1 },
  ])
  t.equal(sequenceTokens(parseWorkloads('tg128@512x4')[0]!), 640)
  for (const wrong of [
    '',
    'pp',
    'pp0',
    'pp512@32',
    'tg128@0',
    'tg128x0',
    'xx5',
    'pp512,',
    'pp1048577',
  ]) {
    t.throws(() => parseWorkloads(wrong), { name: 'RangeError', message: /^tests: / }, wrong)
  }
})

const specOf = (dtype: MatrixDType) =>
  recordModel(MODEL_7B, listedCheckpoint(MODEL_7B, 'bf16'), dtype)

// By hand: attention 24 * 4 * 1536^2 = 226,492,416 weights; an FFN expert 3 * 1536 * 4096 =
// 18,874,368; head 100,663,296. 36 experts are 1.5 for each of 24 layers. f32 parts: a router, the
// constant experts and two norms in each layer, a map of logits in all but the first, the last
// norm.
const SMALL = 4 * (24 * (20 * 1536 + 8 * 1536) + 23 * 400 + 1536)

t.test('bytes of a decode step', async t => {
  const bytes = (dtype: MatrixDType, cached: number) =>
    bytesOfStep(specOf(dtype), { touched: 36 }, cached, 'f32')
  t.equal(bytes('bf16', 0), 2 * (226_492_416 + 36 * 18_874_368 + 100_663_296) + SMALL)
  t.equal(bytes('f32', 0), 4 * (226_492_416 + 36 * 18_874_368 + 100_663_296) + SMALL)
  t.equal(bytes('int8', 0), 1.015625 * (226_492_416 + 36 * 18_874_368 + 100_663_296) + SMALL)
  t.equal(
    bytes('int4', 0),
    0.53125 * 36 * 18_874_368 + 1.015625 * (226_492_416 + 100_663_296) + SMALL,
  )
  t.equal(bytes('int4-all', 0), 0.53125 * (226_492_416 + 36 * 18_874_368 + 100_663_296) + SMALL)
  // 24 layers of 1536 keys and 1536 values in f32.
  t.equal(bytes('bf16', 512) - bytes('bf16', 0), 512 * 24 * 2 * 1536 * 4)
})

t.test('operations of a prefill', async t => {
  const got = operationsOfPrefill(specOf('bf16'), 512, { picks: 18_432 }, 1)
  t.equal(got, 2 * (512 * 226_492_416 + 18_432 * 18_874_368 + 100_663_296))
})

t.test('a prefill over latents counts the products of heads', async t => {
  const description = describeModel(
    {
      model_type: 'glm4_moe_lite',
      ...{ vocab_size: 1000, hidden_size: 256, num_hidden_layers: 1, num_attention_heads: 4 },
      ...{ q_lora_rank: 96, kv_lora_rank: 64, v_head_dim: 48 },
      ...{ qk_nope_head_dim: 40, qk_rope_head_dim: 16, intermediate_size: 512 },
    },
    'latents',
  )
  const spec = recordModel(description, listedCheckpoint(description, 'bf16'), 'bf16')
  // Queries through 96, latents and rotated key, both halves of kv_b, output; then a dense network.
  const attention = 256 * 96 + 96 * 4 * 56 + 256 * 80 + 4 * (40 + 48) * 64 + 4 * 48 * 256
  const weights = attention + 3 * 512 * 256
  const got = operationsOfPrefill(spec, 100, { picks: 0 }, 1)
  t.equal(got, 2 * (100 * weights + 256 * 1000))
})

t.test('a share is of the fastest instruction that the dtype may use', async t => {
  const peaks = { f32_fma: 100, int8_vnni: 400, bf16_amx: 800 }
  t.same(peakFor('float32', peaks), { name: 'f32_fma', rate: 100 })
  t.same(peakFor('bfloat16', peaks), { name: 'bf16_amx', rate: 800 })
  t.same(peakFor('int8', peaks), { name: 'int8_vnni', rate: 400 })
  t.same(peakFor('int4', { f32_fma: 100, int8_madd: 150 }), { name: 'int8_madd', rate: 150 })
  t.same(peakFor('int4', { f32_fma: 100 }), { name: 'f32_fma', rate: 100 })
  for (const type of MATRIX_TYPES.filter(type => type.startsWith('int')))
    t.same(peakFor(type, peaks), { name: 'int8_vnni', rate: 400 }, type)
})

t.test('compute peaks of each instruction set', async t => {
  const { computePeaks, processor } = loadBinding()
  for (const isa of processor().isas) {
    const peaks = await computePeaks(1, isa)
    for (const [name, rate] of Object.entries(peaks)) t.ok(rate > 1e8, `${isa} ${name} ${rate}`)
    t.ok(peaks.f32_fma, `${isa} has f32_fma`)
    t.ok(
      Object.keys(peaks).some(name => name.startsWith('int8_')),
      `${isa} has one of 8-bit integers`,
    )
  }
  await t.rejects(computePeaks(1, 'mmx'), { code: 'ERR_UNSUPPORTED', message: /isa is mmx/ })
})
