/** Qwen3-MoE, as transformers 4.57 computes it: docs/models/qwen3-moe.md. */
import type { Fields } from '../base/fields.js'
import { selfAttention } from '../layers/attention.js'
import { decoder, type NextNorm } from '../layers/decoder.js'
import { mlp } from '../layers/mlp.js'
import { moe } from '../layers/moe.js'
import { Rope } from '../layers/rope.js'
import type { Buffer } from '../program/builder.js'
import type { ModelBuilder } from '../program/model-builder.js'
import type { ExpertRuns } from '../program/moe-ops.js'
import type { Family, ModelConfig, ModelDescription } from './family.js'
import {
  checkExperts,
  headSizes,
  IGNORED_KEYS,
  keys,
  ropeFields,
  siluOnly,
  tokenIds,
  torchDtype,
} from './fields.js'
import { storedConstants, storedExperts, storedMlp } from './stored-parts.js'
import type { ZeroComputation } from './zero-computation.js'

export interface Qwen3MoeConfig extends ModelConfig {
  /** Of dense layers. */
  readonly denseSize: number
  /** Layer i is dense unless this divides i + 1. */
  readonly sparseStep: number
  /** Layers that are dense in any case. */
  readonly denseLayers: readonly number[]
  /** Experts by kind, in order; those with a feed-forward network first. */
  readonly runs: ExpertRuns
  /** No zero-computation expert is ever chosen. */
  readonly masked: boolean
  /** The weights of the picks are divided by their sum. */
  readonly normalise: boolean
  /** Biases of attention's projections. */
  readonly attentionBias: boolean
  /** Keys that a query sees; null for all. */
  readonly slidingWindow: number | null
}

export const qwen3Moe: Family = {
  name: 'qwen3-moe',
  architectures: ['Qwen3MoeForCausalLM'],
  modelTypes: ['qwen3_moe'],
  describe: fields => describeQwen3Moe(fields, 'qwen3-moe', () => ({ runs: [], masked: false })),
}

/** `zero` reads the keys of zero-computation experts. */
export function describeQwen3Moe(
  fields: Fields,
  family: string,
  zero: (fields: Fields) => ZeroComputation,
): ModelDescription {
  const c = parse(fields, family, zero(fields))
  const rope = new Rope(c)
  const shape = { ...c, bias: c.attentionBias, qkNormEps: c.rmsNormEps, window: c.slidingWindow }
  return {
    config: c,
    routerNotes: [
      ...(c.normalise ? ['weights divided by their sum'] : ['weights of the softmax over all']),
      ...(c.masked ? ['zero-computation experts masked'] : []),
    ],
    rope,
    record(m) {
      decoder(m, c, rope, (layer, { x, y }, inputs, next) => {
        const input = { x, delta: selfAttention(m, layer, y, inputs, shape) }
        if (hasExperts(c, layer)) return recordMoe(m, c, layer, input, next)
        const parts = storedMlp(m, `model.layers.${layer}.mlp`, c.hiddenSize, c.denseSize)
        return mlp(m, layer, input, parts, next)
      })
    },
  }
}

/** A layer without experts is dense. */
export function hasExperts(c: Qwen3MoeConfig, layer: number): boolean {
  return c.ffnExperts > 0 && (layer + 1) % c.sparseStep === 0 && !c.denseLayers.includes(layer)
}

function recordMoe(
  m: ModelBuilder,
  c: Qwen3MoeConfig,
  layer: number,
  input: { x: Buffer; delta: Buffer },
  next: NextNorm,
) {
  const block = `model.layers.${layer}.mlp`
  return moe(
    m,
    layer,
    input,
    {
      gating: { topK: c.topK, experts: c.runs, normalise: c.normalise, masked: c.masked },
      router: m.small('router', `${block}.gate.weight`, [c.experts, c.hiddenSize]),
      constants: storedConstants(m, `${block}.experts`, c.runs, c.hiddenSize),
      ...storedExperts(m, layer, `${block}.experts`, c),
    },
    next,
  )
}

/** Keys of published files that upstream does not read when it computes. */
const NOT_READ = keys(`
  max_window_layers router_aux_loss_coef output_router_logits attention_dropout qkv_bias use_qk_norm
  shared_expert_intermediate_size layer_types
`)

function parse(fields: Fields, family: string, zero: ZeroComputation): Qwen3MoeConfig {
  siluOnly(fields)
  const hiddenSize = fields.size('hidden_size', 2048)
  const maxPositionEmbeddings = fields.size('max_position_embeddings', 32768)
  // transformers 5 writes the other name.
  const expertsKey = fields.oneOf('num_experts', 'num_local_experts')
  const ffnExperts = fields.integer(expertsKey, 128, { from: 0 })
  const runs: ExpertRuns = [{ kind: 'ffn', count: ffnExperts }, ...zero.runs]
  const experts = runs.reduce((sum, { count }) => sum + count, 0)
  const topK = fields.size('num_experts_per_tok', 8)
  if (ffnExperts > 0) checkExperts(fields, experts, topK)
  const config: Qwen3MoeConfig = {
    family,
    vocabSize: fields.size('vocab_size', 151936),
    hiddenSize,
    intermediateSize: fields.size('moe_intermediate_size', 768),
    denseSize: fields.size('intermediate_size', 6144),
    layers: fields.size('num_hidden_layers', 24),
    sparseStep: fields.size('decoder_sparse_step', 1),
    denseLayers: fields.given('mlp_only_layers', key => fields.integers(key, [])) ?? [],
    ...headSizes(
      fields,
      hiddenSize,
      fields.size('num_attention_heads', 32),
      fields.size('num_key_value_heads', 4),
      fields.integerOrNull('head_dim', { from: 2 }),
    ),
    maxPositionEmbeddings,
    experts,
    ffnExperts,
    runs,
    masked: zero.masked,
    topK,
    normalise: fields.boolean('norm_topk_prob', false),
    attentionBias: fields.boolean('attention_bias', false),
    slidingWindow: slidingWindow(fields),
    rmsNormEps: fields.number('rms_norm_eps', 1e-6, { from: 0 }),
    ...ropeFields(fields, 10000, maxPositionEmbeddings),
    tieWordEmbeddings: fields.boolean('tie_word_embeddings', false),
    ...tokenIds(fields, { bos: null, eos: [] }),
    torchDtype: torchDtype(fields),
  }
  fields.refuseUnread([...IGNORED_KEYS, ...NOT_READ])
  return config
}

/** `sliding_window` alone does nothing; null is none. */
function slidingWindow(fields: Fields): number | null {
  const isUsed = fields.boolean('use_sliding_window', false)
  const isGiven = fields.take('sliding_window') !== undefined
  const window = isGiven ? fields.integerOrNull('sliding_window', { from: 1 }) : 4096
  return isUsed ? window : null
}
