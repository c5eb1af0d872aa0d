/**
 * A family of a test: its file is this one. Its experts are in an order that no other has, its keys
 * and tensors have other names. On the same numbers it must give what Qwen3-MoE++ gives.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Family } from '../../lib/families/family.js'
import { recordModel, storedTensors } from '../../lib/families/record.js'
import { describeModel, FAMILIES } from '../../lib/families/registry.js'
import { Model } from '../../lib/generation/model.js'
import { selfAttention } from '../../lib/layers/attention.js'
import { decoder } from '../../lib/layers/decoder.js'
import { expertMatrix, moe } from '../../lib/layers/moe.js'
import { Rope } from '../../lib/layers/rope.js'
import { loadParts } from '../../lib/load/load.js'
import { type LoadOptions, resolveLoadOptions } from '../../lib/options/load.js'
import { countParameters } from '../../lib/program/model-spec.js'
import { type ExpertRuns, expertCount } from '../../lib/program/moe-ops.js'
import { safetensorsBytes } from '../checkpoint/files.js'
import { listedCheckpoint } from '../support/listed-checkpoint.js'

/** Its order, and the index that each expert has among Qwen3-MoE++'s. */
const TOY_RUNS: ExpertRuns = [
  { kind: 'zero', count: 2 },
  { kind: 'ffn', count: 2 },
  { kind: 'constant', count: 1 },
  { kind: 'ffn', count: 3 },
  { kind: 'copy', count: 1 },
]
const PLACES = [5, 6, 0, 1, 8, 2, 3, 4, 7]
const FFN = [0, 1, 2, 3, 4]
const CONSTANT = 8

const QWEN3 = {
  architectures: ['Qwen3MoePlusPlusForCausalLM'],
  vocab_size: 60,
  hidden_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  moe_intermediate_size: 10,
  num_experts: 5,
  num_experts_per_tok: 3,
  norm_topk_prob: true,
  zce_nums: [2, 1, 1],
  zce_types: ['zero', 'copy', 'constant'],
  use_zce_mask: false,
}
const TOY = { architectures: ['ToyForCausalLM'], words: 60, width: 24, depth: 2 }

const toy: Family = {
  name: 'toy',
  architectures: ['ToyForCausalLM'],
  modelTypes: [],
  describe(fields) {
    const H = fields.integer('width', 0, { from: 1 })
    const c = {
      family: 'toy',
      vocabSize: fields.integer('words', 0, { from: 1 }),
      hiddenSize: H,
      intermediateSize: 10,
      layers: fields.integer('depth', 0, { from: 1 }),
      ...{ heads: 4, kvHeads: 2, headDim: 8, maxPositionEmbeddings: 32768 },
      ...{ rmsNormEps: 1e-6, ropeTheta: 10000, ropeScaling: null, tieWordEmbeddings: false },
      ...{ experts: 9, ffnExperts: 5, topK: 3 },
      ...{ padTokenId: null, bosTokenId: null, eosTokenIds: [], torchDtype: null },
    }
    const rope = new Rope(c)
    return {
      config: c,
      routerNotes: [],
      rope,
      record(m) {
        decoder(m, c, rope, (layer, { x, y }, inputs, next) => {
          const delta = selfAttention(m, layer, y, inputs, { ...c, qkNormEps: 1e-6 })
          const part = (name: string, shape: readonly number[]) => ({
            name: `toy.${layer}.${name}`,
            shape,
          })
          const small = (name: string, shape: readonly number[]) =>
            m.small('constantExperts', `toy.${layer}.${name}`, shape)
          return moe(
            m,
            layer,
            { x, delta },
            {
              gating: { topK: 3, experts: TOY_RUNS, normalise: true },
              router: m.small('router', `toy.${layer}.router`, [9, H]),
              constants: { router: small('scores', [2, H]), vectors: small('vector', [1, H]) },
              gateUp: expertMatrix(m, layer, `toy.${layer}.in`, 5, [20, H], e => [
                part(`gate.${e}`, [10, H]),
                part(`up.${e}`, [10, H]),
              ]),
              down: expertMatrix(m, layer, `toy.${layer}.out`, 5, [H, 10], e =>
                part(`down.${e}`, [H, 10]),
              ),
            },
            next,
          )
        })
      },
    }
  },
}
const families = [...FAMILIES, toy]

type Values = Map<string, { shape: readonly number[]; values: Float32Array }>

/** Numbers from a linear congruence, about as large as trained ones. */
function randomValues(): Values {
  let state = 1
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32 - 0.5
  }
  return new Map(
    storedTensors(describeModel(QWEN3, 'config.json')).map(({ name, shape }) => {
      const length = shape.reduce((a, b) => a * b, 1)
      return [name, { shape, values: Float32Array.from({ length }, next) }]
    }),
  )
}

/** The same numbers under the toy's names, its router's rows in its own order. */
function toyValues(qwen3: Values): Values {
  const values = new Map([...qwen3].filter(([name]) => !/mlp/.test(name)))
  for (const layer of [0, 1]) {
    const stored = (name: string) => qwen3.get(`model.layers.${layer}.${name}`)!
    const expert = (e: number, name: string) => stored(`mlp.experts.${e}.${name}`)
    const { shape, values: rows } = stored('mlp.gate.weight')
    const router = Float32Array.from(
      PLACES.flatMap(place => [...rows.subarray(place * 24, (place + 1) * 24)]),
    )
    values.set(`toy.${layer}.router`, { shape, values: router })
    values.set(`toy.${layer}.scores`, expert(CONSTANT, 'wg.weight'))
    const vector = expert(CONSTANT, 'constant').values
    values.set(`toy.${layer}.vector`, { shape: [1, 24], values: vector })
    for (const e of FFN) {
      for (const name of ['gate', 'up', 'down'])
        values.set(`toy.${layer}.${name}.${e}`, expert(e, `${name}_proj.weight`))
    }
  }
  return values
}

function write(directory: string, config: object, values: Values): string {
  mkdirSync(directory)
  const header: Record<string, object> = {}
  let end = 0
  for (const [name, { shape, values: data }] of values) {
    header[name] = { dtype: 'F32', shape, data_offsets: [end, end + data.byteLength] }
    end += data.byteLength
  }
  const data = Buffer.concat([...values.values()].map(({ values: v }) => Buffer.from(v.buffer)))
  writeFileSync(join(directory, 'model.safetensors'), safetensorsBytes(header, data))
  writeFileSync(join(directory, 'config.json'), JSON.stringify(config))
  return directory
}

async function load(directory: string, options: LoadOptions): Promise<Model> {
  const all = resolveLoadOptions({ device: 'cpu', threads: 2, kvCacheTokens: 256, ...options })
  return new Model(await loadParts(directory, all, families))
}

t.test('a family recorded in a test computes what its twin does', async t => {
  const root = t.testdir()
  const values = randomValues()
  const directories = [
    write(join(root, 'qwen3'), QWEN3, values),
    write(join(root, 'toy'), TOY, toyValues(values)),
  ]
  const tokens = Array.from({ length: 20 }, (_, i) => (i * 17) % 60)
  for (const dtype of ['float32', 'bfloat16', 'int8', 'int4', 'int4-all'] as const) {
    const [twin, toyModel] = await Promise.all(directories.map(path => load(path, { dtype })))
    const capture = ['layers.*.expert_indices', 'layers.*.expert_weights', 'layers.*.moe_output']
    const [expected, got] = await Promise.all(
      [twin!, toyModel!].map(model => model.forward(tokens, { capture })),
    )
    t.same(got!.logits, expected!.logits, `${dtype}: the same bits`)
    for (const layer of [0, 1]) {
      const name = `layers.${layer}.expert_indices`
      const mapped = got!.captured[name]!.map(expert => PLACES[expert]!)
      t.same(mapped, expected!.captured[name], 'the same experts')
      t.same(
        got!.captured[`layers.${layer}.moe_output`],
        expected!.captured[`layers.${layer}.moe_output`],
      )
    }
    const options = { maxNewTokens: 12, doSample: false, routing: true, ignoreEos: true }
    const [a, b] = await Promise.all(
      [twin!, toyModel!].map(model => model.generate(tokens, options)),
    )
    t.same(b!.tokenIds, a!.tokenIds)
    t.equal(b!.routing!.ffnExpertsPerToken, a!.routing!.ffnExpertsPerToken)
    t.ok(b!.routing!.ffnExpertsPerToken > 0.5 && b!.routing!.ffnExpertsPerToken < 2.5)
    await Promise.all([twin!.close(), toyModel!.close()])
  }
})

t.test('all else follows from the recording', async t => {
  const specOf = (config: object) => {
    const description = describeModel(config, 'config.json', families)
    return recordModel(description, listedCheckpoint(description), 'exact')
  }
  const [twin, recorded] = [specOf(QWEN3), specOf(TOY)]
  t.same(countParameters(recorded), countParameters(twin))
  t.same(recorded.captures, twin.captures)
  t.same(recorded.cache, twin.cache)
  t.equal(expertCount(TOY_RUNS), PLACES.length)
})
