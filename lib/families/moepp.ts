/**
 * MoE++ (arXiv 2410.07348) as its authors' code computes it: docs/models/moepp.md. Names and
 * defaults are those of upstream's MoeConfig, which are not the released 7B model's values.
 */
import type { Fields } from '../base/fields.js'
import { isObject, show } from '../base/json.js'
import { selfAttention } from '../layers/attention.js'
import { decoder, type NextNorm, type Stream } from '../layers/decoder.js'
import { expertMatrix, moe } from '../layers/moe.js'
import { Rope, type RopeScaling } from '../layers/rope.js'
import type { Buffer } from '../program/builder.js'
import type { ModelBuilder } from '../program/model-builder.js'
import type { Gating } from '../program/moe-ops.js'
import { linear } from '../program/ops.js'
import type { Family, ModelConfig, ModelDescription } from './family.js'
import { headSizes, IGNORED_KEYS, MAX_EXPERTS, tokenIds, torchDtype } from './fields.js'

export interface MoeppConfig extends ModelConfig {
  /** Softmax over the two chosen logits; else over all, with the zero expert's weight dropped. */
  readonly mixtralGating: boolean
  /** True if the router has a hidden layer of 8 E with tanh. */
  readonly twoLayerRouter: boolean
  /** Router logits are scaled to the standard deviation gateNormStd. */
  readonly logitsNorm: boolean
  readonly gateNormStd: number
  /** Factor of the experts' input (not the router's): upstream doubles it unless told not to. */
  readonly inputScale: 1 | 2
}

/** After the FFN experts come two constant experts, the copy expert and the zero expert. */
const CONSTANTS = 2
const OTHERS = CONSTANTS + 2

export const moepp: Family = {
  name: 'moepp',
  architectures: ['MoeForCausalLM'],
  modelTypes: ['MoE++'],
  describe: fields => description(parse(fields)),
}

function description(c: MoeppConfig): ModelDescription {
  const rope = new Rope(c, true)
  return {
    config: c,
    routerNotes: [
      c.twoLayerRouter ? 'two layers' : 'one layer',
      'gating residual',
      ...(c.logitsNorm ? [`logits scaled to standard deviation ${c.gateNormStd}`] : []),
      ...(c.mixtralGating ? ['softmax over the picks'] : []),
      ...(c.inputScale === 1 ? [] : [`experts' input times ${c.inputScale}`]),
    ],
    rope,
    record(m) {
      let previousLogits: Buffer | undefined
      decoder(m, c, rope, (layer, { x, y }, inputs, next) => {
        const delta = selfAttention(m, layer, y, inputs, c)
        const { logits, ...stream } = recordMoe(m, c, layer, { x, delta, previousLogits }, next)
        previousLogits = logits
        return stream
      })
    },
  }
}

/** The experts of a layer, between attention and the next layer's norm. */
export function recordMoe(
  m: ModelBuilder,
  c: MoeppConfig,
  layer: number,
  input: { x: Buffer; delta: Buffer; previousLogits: Buffer | undefined },
  next: NextNorm,
): Stream & { logits: Buffer } {
  const { hiddenSize: H, intermediateSize: F, ffnExperts: N, experts: E } = c
  const gate = `model.layers.${layer}.mlp.moe.gate`
  const experts = `model.layers.${layer}.mlp.moe.experts.experts`
  const ffn = (name: string, shape: readonly number[]) =>
    expertMatrix(m, layer, `${experts}.${name}`, N, shape, e => ({
      name: `${experts}.${e}.${name}.weight`,
      shape,
    }))
  const constant = (name: string, stored: string, rows: readonly number[]) =>
    m.small(
      'constantExperts',
      `${experts}.constant.${name}`,
      [CONSTANTS * (rows[0] ?? 1), H],
      [N, N + 1].map(e => ({ name: `${experts}.${e}.${stored}`, shape: [...rows, H] })),
    )
  const { previousLogits: logits } = input
  const map = `${gate}.gate_map.weight`
  // Layer 0 has no layer before it. Checkpoints hold its gate_map all the same.
  if (!logits) m.unread('router', map)
  return moe(
    m,
    layer,
    input,
    {
      gating: gatingOf(c),
      ...router(m, c, layer, gate),
      residual: logits && { logits, map: m.small('router', map, [E, E]) },
      constants: {
        router: constant('wg', 'wg.weight', [2]),
        vectors: constant('vector', 'constant', []),
      },
      gateUp: ffn('up_proj', [2 * F, H]),
      down: ffn('down_proj', [H, F]),
    },
    next,
  )
}

function router(m: ModelBuilder, c: MoeppConfig, layer: number, gate: string) {
  const { experts: E, hiddenSize: H } = c
  if (!c.twoLayerRouter) return { router: m.small('router', `${gate}.wg.weight`, [E, H]) }
  const hidden = (x: Buffer) => {
    const weight = m.small('router', `${gate}.wg.0.weight`, [8 * E, H])
    return linear(m, `layers.${layer}.router_hidden`, { x, weight, activation: 'tanh' })
  }
  return { hidden, router: m.small('router', `${gate}.wg.2.weight`, [E, 8 * E]) }
}

function gatingOf(c: MoeppConfig): Gating {
  return {
    topK: c.topK,
    experts: [
      { kind: 'ffn', count: c.ffnExperts },
      { kind: 'constant', count: CONSTANTS },
      { kind: 'copy', count: 1 },
      { kind: 'zero', count: 1 },
    ],
    normalise: true,
    dropZero: !c.mixtralGating,
    normStd: c.logitsNorm ? c.gateNormStd : 0,
    inputScale: c.inputScale,
  }
}

function parse(fields: Fields): MoeppConfig {
  // Upstream's experts use silu whatever this says.
  fields.take('hidden_act')
  // Upstream's dense layer fails at its first call, so that another interval has no defined result.
  fields.only('moe_expert_interval', [1])
  const hiddenSize = fields.size('hidden_size', 4096)
  const heads = fields.size('num_attention_heads', 32)
  const kvHeads = fields.integerOrNull('num_key_value_heads', { from: 1 }) ?? heads
  const mixtralGating = fields.boolean('moe_use_mixtral_gating', false)
  const isDoubled = !fields.boolean('moe_feature_no_mul_topk', false) && !mixtralGating
  const experts = parseExperts(fields)
  const config: MoeppConfig = {
    family: moepp.name,
    vocabSize: fields.size('vocab_size', 32000),
    hiddenSize,
    intermediateSize: fields.size('intermediate_size', 11008),
    layers: fields.size('num_hidden_layers', 32),
    ...headSizes(fields, hiddenSize, heads, kvHeads),
    maxPositionEmbeddings: fields.size('max_position_embeddings', 2048),
    experts,
    ffnExperts: experts - OTHERS,
    rmsNormEps: fields.number('rms_norm_eps', 1e-6, { from: 0 }),
    ropeTheta: fields.number('rope_theta', 10000, { above: 0 }),
    ropeScaling: parseRopeScaling(fields),
    tieWordEmbeddings: fields.boolean('tie_word_embeddings', false),
    topK: 2,
    mixtralGating,
    twoLayerRouter: fields.boolean('moe_2layer_gate', true),
    logitsNorm: fields.boolean('moe_use_logits_norm', false),
    gateNormStd: fields.number('moe_gate_norm_std', 1, { above: 0 }),
    inputScale: isDoubled ? 2 : 1,
    ...tokenIds(fields, { bos: 1, eos: [2] }),
    torchDtype: torchDtype(fields),
  }
  checkTensorParallel(fields, config)
  fields.refuseUnread([...IGNORED_KEYS, 'sliding_window', 'rotary_percent'])
  return config
}

/** Upstream takes the first entry of the list for every layer, whatever the others are. */
function parseExperts(fields: Fields): number {
  const list = fields.take('num_experts') ?? [32]
  const experts: unknown = Array.isArray(list) ? list[0] : undefined
  const isCount = typeof experts === 'number' && Number.isInteger(experts)
  if (isCount && experts >= OTHERS && experts <= MAX_EXPERTS) return experts
  throw fields.bad(
    `num_experts is ${show(list)}, expected a list that begins with a number from ${OTHERS} to ${MAX_EXPERTS}`,
  )
}

/**
 * pretraining_tp slices the attention's and the output head's matrices, which changes only the
 * order of summation, if the slices are whole. Otherwise upstream drops logits or fails.
 */
function checkTensorParallel(fields: Fields, c: MoeppConfig): void {
  const slices = fields.integer('pretraining_tp', 1, { from: 1 })
  const sliced = {
    vocab_size: c.vocabSize,
    hidden_size: c.hiddenSize,
    'num_key_value_heads * head_dim': c.kvHeads * c.headDim,
  }
  for (const [name, size] of Object.entries(sliced)) {
    if (size % slices !== 0)
      throw fields.bad(`pretraining_tp ${slices} does not divide ${name} ${size}`)
  }
}

/**
 * Upstream refuses a factor that Python reads as an integer (`2`, not `2.0`). JSON.parse cannot
 * tell the two apart and they mean the same, so both are accepted.
 */
function parseRopeScaling(fields: Fields): RopeScaling | null {
  const value = fields.take('rope_scaling')
  if (value === undefined || value === null) return null
  const { type, factor, ...others } = isObject(value) ? value : {}
  const other = Object.keys(others)[0]
  if (other !== undefined) throw fields.bad(`rope_scaling has the unknown key ${show(other)}`)
  if (type !== 'linear' && type !== 'dynamic' && type !== 'ntk')
    throw fields.bad(`rope_scaling.type is ${show(type)}, expected linear, dynamic, ntk`)
  if (typeof factor !== 'number' || !Number.isFinite(factor) || factor <= 1)
    throw fields.bad(`rope_scaling.factor is ${show(factor)}, expected a number above 1`)
  return { type, factor }
}
