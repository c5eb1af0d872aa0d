/** LongCat-Flash, as transformers 4.57 computes it: docs/models/longcat-flash.md. */
import type { Fields } from '../base/fields.js'
import {
  type AddedEmbedding,
  decoder,
  type NextNorm,
  type StepInputs,
  type Stream,
} from '../layers/decoder.js'
import { latentAttention } from '../layers/latent-attention.js'
import { feedForward } from '../layers/mlp.js'
import { combineExperts, type Moe, routeToExperts } from '../layers/moe.js'
import { Rope } from '../layers/rope.js'
import type { Buffer } from '../program/builder.js'
import type { ModelBuilder } from '../program/model-builder.js'
import type { ExpertRuns } from '../program/moe-ops.js'
import { addRmsNorm } from '../program/ops.js'
import type { Family, ModelConfig, ModelDescription } from './family.js'
import {
  checkExperts,
  IGNORED_KEYS,
  keys,
  ropeFields,
  siluOnly,
  tokenIds,
  torchDtype,
} from './fields.js'
import { type LatentSizes, latentHeads, latentScale, latentSizes } from './latent-fields.js'
import { storedExperts, storedMlp } from './stored-parts.js'

export interface LongcatFlashConfig extends ModelConfig, LatentSizes {
  readonly queryRank: number
  /** Of dense networks. */
  readonly denseSize: number
  readonly runs: ExpertRuns
  /** Factor of the picks' weights. */
  readonly routedScale: number
  /** Biases of attention's projections from and to the hidden size. */
  readonly attentionBias: boolean
}

export const longcatFlash: Family = {
  name: 'longcat-flash',
  architectures: ['LongcatFlashForCausalLM', 'LongcatCausalLM'],
  modelTypes: ['longcat_flash'],
  describe: fields => longcatDescription(parseLongcat(fields, longcatFlash.name)),
}

/** @param added records what is added to the embedding of tokens */
export function longcatDescription(
  c: LongcatFlashConfig,
  added?: (m: ModelBuilder) => AddedEmbedding,
): ModelDescription {
  const rope = new Rope({ ...c, headDim: c.rotatedDim })
  return {
    config: c,
    routerNotes: ['weights of the softmax over all, a bias for the choice'],
    rope,
    predictionLayer,
    record(m) {
      decoder(
        m,
        c,
        rope,
        (layer, stream, inputs, next) => recordLayer(m, c, layer, stream, inputs, next),
        {
          normOf: layer => `model.layers.${layer}.input_layernorm.0.weight`,
          tokens: storedEmbedding(m),
          added: added?.(m),
        },
      )
    },
  }
}

/** Beside layers there are tensors that all of them share. */
function predictionLayer(name: string): number | undefined {
  const [tensor, layer = 0] = /^model\.mtp\.(?:layers\.(\d+)\.)?/.exec(name) ?? []
  return tensor === undefined ? undefined : Number(layer)
}

/** Files of n-gram models may name the tokens' embedding a second time, or so alone. */
function storedEmbedding(m: ModelBuilder): string {
  const names = ['model.embed_tokens.weight', 'model.ngram_embeddings.word_embeddings.weight']
  return names.find(name => m.isStored(name)) ?? names[0]!
}

/**
 * Two attentions and two dense networks. The experts read what the first network reads, and their
 * sum is added last: so they may run beside all that comes between.
 */
function recordLayer(
  m: ModelBuilder,
  c: LongcatFlashConfig,
  layer: number,
  { x, y }: Stream,
  inputs: StepInputs,
  next: NextNorm,
): Stream {
  const stored = `model.layers.${layer}`
  const half = (s: number) => {
    const scope = `layers.${layer}.${s}`
    return {
      attention: (u: Buffer) =>
        latentAttention(m, `${scope}.attention`, `${stored}.self_attn.${s}`, u, inputs, {
          ...c,
          bias: c.attentionBias,
          interleaved: true,
          // A factor of the whole query is one of its scores.
          scale: latentScale(c, c.ropeScaling) * Math.sqrt(c.hiddenSize / c.queryRank),
          latentScale: Math.sqrt(c.hiddenSize / c.latentRank),
        }),
      network: (u: Buffer) =>
        feedForward(
          m,
          `${scope}.mlp`,
          u,
          storedMlp(m, `${stored}.mlps.${s}`, c.hiddenSize, c.denseSize),
        ),
      norm: (name: string, at: { x: Buffer; delta: Buffer }) =>
        addRmsNorm(m, `${scope}.${name}`, {
          ...at,
          weight: m.small('norms', `${stored}.${name}.${s}.weight`, [c.hiddenSize]),
          eps: c.rmsNormEps,
        }),
    }
  }
  const [first, second] = [half(0), half(1)]
  const parts = expertParts(m, c, layer)
  const attended = first.norm('post_attention_layernorm', { x, delta: first.attention(y) })
  const routed = routeToExperts(m, layer, attended.out, parts)
  const between = second.norm('input_layernorm', {
    x: attended.sum,
    delta: first.network(attended.out),
  })
  const { sum, out } = second.norm('post_attention_layernorm', {
    x: between.sum,
    delta: second.attention(between.out),
  })
  const delta = second.network(out)
  return combineExperts(m, layer, routed, { residual: sum, delta }, parts, next)
}

function expertParts(m: ModelBuilder, c: LongcatFlashConfig, layer: number): Moe {
  const block = `model.layers.${layer}.mlp`
  return {
    gating: { topK: c.topK, experts: c.runs, normalise: false, weightScale: c.routedScale },
    router: m.small('router', `${block}.router.classifier.weight`, [c.experts, c.hiddenSize]),
    selectionBias: m.small('router', `${block}.router.e_score_correction_bias`, [c.experts]),
    ...storedExperts(m, layer, `${block}.experts`, c),
  }
}

/** Keys of published files that upstream does not read when it computes. */
const NOT_READ = keys(`
  num_hidden_layers num_key_value_heads attention_dropout attention_method router_dtype topk_method
  norm_topk_prob
`)

/** @param family its name */
export function parseLongcat(fields: Fields, family: string): LongcatFlashConfig {
  siluOnly(fields)
  const heads = latentHeads(fields, 64)
  const maxPositionEmbeddings = fields.size('max_position_embeddings', 131072)
  const ffnExperts = fields.size('n_routed_experts', 512)
  const identities = fields.integer('zero_expert_num', 256, { from: 0 })
  fields.only('zero_expert_type', ['identity'])
  fields.only('mla_scale_q_lora', [true])
  fields.only('mla_scale_kv_lora', [true])
  // Upstream makes a bias of it that it never adds.
  fields.only('router_bias', [false])
  const experts = ffnExperts + identities
  const topK = fields.size('moe_topk', 12)
  checkExperts(fields, experts, topK)
  const sizes = latentSizes(fields, {
    ...{ queryRank: 1536, latentRank: 512, plainDim: 128, rotatedDim: 64, valueDim: 128 },
  })
  const { queryRank } = sizes
  if (queryRank === null) throw fields.bad('q_lora_rank is null, expected a number')
  const headDim = fields.integer('head_dim', sizes.rotatedDim, { from: 2 })
  if (headDim !== sizes.rotatedDim)
    throw fields.bad(`head_dim is ${headDim}, expected qk_rope_head_dim, ${sizes.rotatedDim}`)
  const config: LongcatFlashConfig = {
    family,
    vocabSize: fields.size('vocab_size', 131072),
    hiddenSize: fields.size('hidden_size', 6144),
    intermediateSize: fields.size('expert_ffn_hidden_size', 2048),
    denseSize: fields.size('ffn_hidden_size', 12288),
    layers: fields.size('num_layers', 28),
    heads,
    kvHeads: heads,
    ...sizes,
    queryRank,
    headDim: sizes.plainDim + sizes.rotatedDim,
    maxPositionEmbeddings,
    experts,
    ffnExperts,
    runs: [
      { kind: 'ffn', count: ffnExperts },
      { kind: 'copy', count: identities },
    ],
    topK,
    routedScale: fields.number('routed_scaling_factor', 6, { above: 0 }),
    attentionBias: fields.boolean('attention_bias', false),
    rmsNormEps: fields.number('rms_norm_eps', 1e-5, { from: 0 }),
    ...ropeFields(fields, 1e7, maxPositionEmbeddings),
    tieWordEmbeddings: fields.boolean('tie_word_embeddings', false),
    ...tokenIds(fields, { bos: null, eos: [] }),
    torchDtype: torchDtype(fields),
  }
  fields.refuseUnread([...IGNORED_KEYS, ...NOT_READ])
  return config
}
