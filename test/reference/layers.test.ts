/**
 * Every isolated layer of the golden data, run as a program of the ops that the model is made of.
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { ModelConfig } from '../../lib/config.js'
import { RopeFrequencies } from '../../lib/model/frequencies.js'
import { gatingOf, moe, routeTokens } from '../../lib/model/moe.js'
import { ModelWeights } from '../../lib/model/weights.js'
import {
  combineRmsNorm,
  groupedGemm,
  groupedSwiglu,
  linear,
  rmsNorm,
  ropeTable,
  routerLogits,
  routeTopK,
} from '../../lib/program/ops.js'
import { difference, golden, readGolden, readJson, sortedPicks } from '../support/golden.js'
import { devices, runProgram } from '../support/one-program.js'
import {
  configOf,
  floats,
  type Golden,
  type LayerCase,
  type LayerRun,
  named,
  type Results,
  storedDType,
} from './layer-case.js'

async function gating(layer: LayerCase, data: Golden, isa: string): Promise<Results> {
  const c = configOf(layer.params)
  const logits = data.values('logits')
  const tokens = logits.shape[0]!
  const [result] = await runProgram(
    p => {
      const route = routeTopK(p, 'gate', {
        logits: p.input('logits', 'f32', ['T', c.experts]),
        constantScores: p.input('scores', 'f32', ['T', 4]),
        ...gatingOf(c),
      })
      return [route.expertIndices, route.expertWeights]
    },
    [
      {
        sizes: { T: tokens },
        inputs: { logits: floats(logits), scores: new Float32Array(4 * tokens) },
      },
    ],
    { isa },
  )
  return {
    topk_indices: result!['gate.expert_indices']!,
    topk_weights: result!['gate.expert_weights']!,
  }
}

async function moeLayer(layer: LayerCase, data: Golden, isa: string): Promise<Results> {
  const c = configOf(layer.params)
  const input = data.values('input')
  const tokens = input.data.length / c.hiddenSize
  const residual = data.has('gate_residual')
  const [result] = await runProgram(
    p => {
      const w = new ModelWeights(
        p,
        named(data, 'model.layers.0.mlp.moe.'),
        storedDType(data, 'experts.experts.0.up_proj.weight'),
      )
      const x = p.input('x', 'f32', ['T', c.hiddenSize])
      const ones = p.weight({
        name: 'ones',
        dtype: 'f32',
        shape: [c.hiddenSize],
        parts: [anyVector(data, c)],
      })
      const previousLogits = residual ? p.input('previous', 'f32', ['T', c.experts]) : undefined
      const names = { sum: 'sum', out: 'out' }
      const { route } = routeTokens(p, w, c, 0, { x, previousLogits })
      return [moe(p, w, c, 0, { residual: x, x, route, nextNorm: ones }, names).out]
    },
    [
      {
        sizes: { T: tokens },
        inputs: {
          x: floats(input),
          ...(residual && { previous: floats(data.values('gate_residual')) }),
        },
        capture: [
          'layers.0.moe_output',
          'layers.0.router_logits',
          'layers.0.expert_indices',
          'layers.0.expert_weights',
        ],
      },
    ],
    { isa },
  )
  return {
    output: result!['layers.0.moe_output']!,
    router_logits: result!['layers.0.router_logits']!,
    topk_indices: result!['layers.0.expert_indices']!,
    topk_weights: result!['layers.0.expert_weights']!,
  }
}

/**
 * Some [H] tensor of the layer, where an op wants one whose value does not matter to the result
 * compared.
 */
function anyVector(data: Golden, c: ModelConfig) {
  const name = `experts.experts.${c.ffnExperts}.constant`
  return { name, ...data.tensors.get(name)! }
}

async function router(layer: LayerCase, data: Golden, isa: string): Promise<Results> {
  const c = configOf(layer.params)
  const input = data.values('input')
  const tokens = input.shape[0]!
  const residual = data.has('gate_residual')
  const [result] = await runProgram(
    p => {
      const w = new ModelWeights(p, data.tensors, 'f32')
      const x = p.input('x', 'f32', ['T', c.hiddenSize])
      const hidden = c.twoLayerRouter
        ? linear(p, 'hidden', {
            x,
            weight: w.small('wg.0.weight', [8 * c.experts, c.hiddenSize]),
            activation: 'tanh',
          })
        : undefined
      const { logits, constantScores } = routerLogits(
        p,
        'router',
        {
          x,
          hidden,
          previousLogits: residual ? p.input('previous', 'f32', ['T', c.experts]) : undefined,
          router: c.twoLayerRouter
            ? w.small('wg.2.weight', [c.experts, 8 * c.experts])
            : w.small('wg.weight', [c.experts, c.hiddenSize]),
          residualMap: residual ? w.small('gate_map.weight', [c.experts, c.experts]) : undefined,
          // No constant expert is stored here: two rows of the router's own matrix stand in, and
          // are not compared.
          constantRouter: constantRows(p, data, c),
        },
        'logits',
      )
      const route = routeTopK(p, 'gate', {
        logits,
        constantScores,
        ...gatingOf(c),
      })
      return [logits, route.expertIndices, route.expertWeights]
    },
    [
      {
        sizes: { T: tokens },
        inputs: {
          x: floats(input),
          ...(residual && { previous: floats(data.values('gate_residual')) }),
        },
      },
    ],
    { isa },
  )
  return {
    router_logits: result!.logits!,
    topk_indices: result!['gate.expert_indices']!,
    topk_weights: result!['gate.expert_weights']!,
  }
}

function constantRows(p: Parameters<typeof routerLogits>[0], data: Golden, c: ModelConfig) {
  const name = c.twoLayerRouter ? 'wg.0.weight' : 'wg.weight'
  const stored = data.tensors.get(name)!
  const part = { name, ...stored, shape: [4, c.hiddenSize] }
  return p.weight({
    name: 'constant_router',
    dtype: 'f32',
    shape: [4, c.hiddenSize],
    parts: [part],
  })
}

/** One constant expert that every token picks with weight 1. */
async function constantExpert(layer: LayerCase, data: Golden, isa: string): Promise<Results> {
  const H = Number(layer.params.hidden_size)
  const input = data.values('input')
  const tokens = input.shape[0]!
  const [result] = await runProgram(
    p => {
      const w = new ModelWeights(p, data.tensors, 'f32')
      const x = p.input('x', 'f32', ['T', H])
      const constantRouter = w.small('wg.weight', [2, H])
      const { constantScores } = routerLogits(
        p,
        'router',
        {
          x,
          hidden: undefined,
          previousLogits: undefined,
          router: constantRouter,
          residualMap: undefined,
          constantRouter,
        },
        'unused',
      )
      const logits = p.input('logits', 'f32', ['T', 3])
      const route = routeTopK(p, 'gate', {
        logits,
        constantScores,
        topK: 1,
        experts: (['constant', 'copy', 'zero'] as const).map(kind => ({ kind, count: 1 })),
        scores: 'softmax',
        normalise: true,
      })
      const expertOut = p.input('none', 'f32', ['T', 1, H])
      const constants = w.small('constant', [1, H])
      const normWeight = p.weight({
        name: 'norm',
        dtype: 'f32',
        shape: [H],
        parts: [{ name: 'constant', ...data.tensors.get('constant')! }],
      })
      return [
        combineRmsNorm(
          p,
          'moe',
          { residual: x, x, expertOut, route, constants, normWeight, eps: 1e-6 },
          { sum: 'sum', out: 'out' },
        ).out,
      ]
    },
    [
      {
        sizes: { T: tokens },
        inputs: {
          x: floats(input),
          logits: Float32Array.from({ length: 3 * tokens }, (_, i) => (i % 3 === 0 ? 1 : 0)),
          none: new Float32Array(tokens * H).fill(Number.NaN),
        },
        capture: ['moe.moe_output'],
      },
    ],
    { isa },
  )
  return { output: result!['moe.moe_output']! }
}

async function ffnExpert(layer: LayerCase, data: Golden, isa: string): Promise<Results> {
  const { hidden_size: H, intermediate_size: F } = layer.params as {
    hidden_size: number
    intermediate_size: number
  }
  const input = data.values('input')
  const tokens = input.shape[0]!
  const [result] = await runProgram(
    p => {
      const w = new ModelWeights(p, data.tensors, storedDType(data, 'up_proj.weight'))
      const picks = p.input('order', 'i32', ['T', 1])
      const route = {
        expertOffsets: p.input('offsets', 'i32', [2]),
        tokenOrder: picks,
      } as Parameters<typeof groupedGemm>[2]['route']
      const x = p.input('x', 'f32', ['T', H])
      const hidden = groupedSwiglu(p, 'up', {
        x,
        route,
        weight: w.matrix('up_proj.weight', [1, 2 * F, H]),
        inputScale: 1,
      })
      return [
        groupedGemm(p, 'down', {
          x: hidden,
          route,
          weight: w.matrix('down_proj.weight', [1, H, F]),
        }),
      ]
    },
    [
      {
        sizes: { T: tokens },
        inputs: {
          x: floats(input),
          offsets: Int32Array.of(0, tokens),
          order: Int32Array.from({ length: tokens }, (_, i) => i),
        },
      },
    ],
    { isa },
  )
  return { output: result!['down.out']! }
}

async function rmsNormLayer(layer: LayerCase, data: Golden, isa: string): Promise<Results> {
  const H = Number(layer.params.hidden_size)
  const input = data.values('input')
  const [result] = await runProgram(
    p => {
      const weight = new ModelWeights(p, data.tensors, 'f32').small('weight', [H])
      return [
        rmsNorm(p, 'norm', {
          x: p.input('x', 'f32', ['T', H]),
          weight,
          eps: Number(layer.params.rms_norm_eps),
        }),
      ]
    },
    [{ sizes: { T: input.shape[0]! }, inputs: { x: floats(input) } }],
    { isa },
  )
  return { output: result!['norm.out']! }
}

/**
 * The table of call k uses the base of the longest call so far, as upstream's module object does.
 */
async function rope(layer: LayerCase, _data: Golden, isa: string): Promise<Results> {
  const { head_dim: D, calls } = layer.params as { head_dim: number; calls: number[] }
  const c = configOf(layer.params)
  const rope = new RopeFrequencies(c)
  const runs = calls.map((length, k) => ({
    sizes: { T: length },
    inputs: {
      positions: Int32Array.from({ length }, (_, i) => i),
      starts: Int32Array.of(0, length),
      frequencies: rope.rows(Int32Array.of(rope.variant(Math.max(...calls.slice(0, k + 1))))),
    },
  }))
  const results = await runProgram(
    p => {
      const { cosine, sine } = ropeTable(p, 'rope', {
        positions: p.input('positions', 'i32', ['T']),
        sequenceStarts: p.input('starts', 'i32', ['B+1']),
        frequencies: p.input('frequencies', 'f32', ['B', D / 2]),
        positionDivisor: c.ropeScaling?.type === 'linear' ? c.ropeScaling.factor : 1,
      })
      return [cosine, sine]
    },
    runs,
    { isa },
  )
  const twice = (half: ArrayLike<number>) =>
    Float32Array.from(
      { length: 2 * half.length },
      (_, i) => half[Math.floor(i / D) * (D / 2) + (i % (D / 2))]!,
    )
  const tables: Results = {}
  results.forEach((result, k) => {
    tables[`cos_${k}`] = twice(result['rope.cosine']!)
    tables[`sin_${k}`] = twice(result['rope.sine']!)
  })
  return tables
}

const RUNS: Readonly<Record<string, LayerRun>> = {
  gating,
  moe_layer: moeLayer,
  router,
  constant_expert: constantExpert,
  ffn_expert: ffnExpert,
  rms_norm: rmsNormLayer,
  rope,
}

/** The picks of each token by ascending expert. */
function byIndex(results: Results): Results {
  const { topk_indices: indices, topk_weights: weights } = results
  if (!indices || !weights) return results
  const { ids, shares } = sortedPicks(indices, weights)
  return { ...results, topk_indices: ids, topk_weights: shares }
}

const folder = join(golden, 'layers')
const layers = readdirSync(folder)
  .filter(file => file.endsWith('.json'))
  .map(file => readJson<LayerCase>(join(folder, file)))

t.equal(layers.length, 74, 'every layer case is here')

for (const isa of devices()) {
  for (const layer of layers) {
    const run = RUNS[layer.kind]
    if (!run) continue // attention has a test of its own; "information" has nothing to compare
    t.test(`${layer.name} on ${isa}`, async t => {
      const data = await readGolden(join(folder, `${layer.name}.safetensors`))
      const want = byIndex(
        Object.fromEntries(layer.compare.map(name => [name, data.values(name).data])),
      )
      const got = byIndex(await run(layer, data, isa))
      for (const name of layer.compare)
        t.equal(difference(got[name]!, want[name]!, layer.tolerance), '', name)
    })
  }
}
