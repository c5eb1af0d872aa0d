/** Mixtral, as transformers 4.57 computes it: docs/models/mixtral.md. */
import type { Fields } from '../base/fields.js'
import { selfAttention } from '../layers/attention.js'
import { decoder } from '../layers/decoder.js'
import { expertMatrix, type Moe, moe } from '../layers/moe.js'
import { Rope } from '../layers/rope.js'
import type { ModelBuilder } from '../program/model-builder.js'
import type { Family, ModelConfig } from './family.js'
import {
  checkExperts,
  headSizes,
  IGNORED_KEYS,
  ropeFields,
  siluOnly,
  tokenIds,
  torchDtype,
} from './fields.js'

interface MixtralConfig extends ModelConfig {
  /** Keys that a query sees; null for all. */
  readonly slidingWindow: number | null
}

export const mixtral: Family = {
  name: 'mixtral',
  architectures: ['MixtralForCausalLM'],
  modelTypes: ['mixtral'],
  describe(fields) {
    const c = parse(fields)
    const rope = new Rope(c)
    return {
      config: c,
      routerNotes: ['softmax over the picks'],
      rope,
      record(m) {
        decoder(m, c, rope, (layer, { x, y }, inputs, next) => {
          const delta = selfAttention(m, layer, y, inputs, { ...c, window: c.slidingWindow })
          return moe(m, layer, { x, delta }, experts(m, c, layer), next)
        })
      },
    }
  },
}

/** The newer names are those that transformers 5 has in memory. */
function experts(m: ModelBuilder, c: MixtralConfig, layer: number): Moe {
  const { hiddenSize: H, intermediateSize: F, experts: E } = c
  const block = `model.layers.${layer}.block_sparse_moe`
  const newer = `model.layers.${layer}.mlp`
  const part = (e: number, name: string, shape: readonly number[]) => ({
    name: `${block}.experts.${e}.${name}.weight`,
    shape,
  })
  const gate = m.isStored(`${newer}.gate.weight`) ? newer : block
  const gateUp = (e: number) => [part(e, 'w1', [F, H]), part(e, 'w3', [F, H])]
  const down = (e: number) => part(e, 'w2', [H, F])
  const fused = `${newer}.experts`
  return {
    gating: { topK: c.topK, experts: [{ kind: 'ffn', count: E }], normalise: true },
    router: m.small('router', `${gate}.gate.weight`, [E, H]),
    gateUp: expertMatrix(
      m,
      layer,
      `${block}.experts.w13`,
      E,
      [2 * F, H],
      gateUp,
      `${fused}.gate_up_proj`,
    ),
    down: expertMatrix(m, layer, `${block}.experts.w2`, E, [H, F], down, `${fused}.down_proj`),
  }
}

/** Keys that upstream does not read when it computes. */
const NOT_READ = [
  'router_aux_loss_coef',
  'router_jitter_noise',
  'output_router_logits',
  'attention_dropout',
]

function parse(fields: Fields): MixtralConfig {
  siluOnly(fields)
  // Upstream does not read it. A file that says true means another model.
  fields.only('attention_bias', [false, null])
  const hiddenSize = fields.size('hidden_size', 4096)
  const heads = fields.size('num_attention_heads', 32)
  const isGiven = fields.take('num_key_value_heads') !== null
  const maxPositionEmbeddings = fields.size('max_position_embeddings', 131072)
  const experts = fields.size('num_local_experts', 8)
  const topK = fields.size('num_experts_per_tok', 2)
  checkExperts(fields, experts, topK)
  const config: MixtralConfig = {
    family: mixtral.name,
    vocabSize: fields.size('vocab_size', 32000),
    hiddenSize,
    intermediateSize: fields.size('intermediate_size', 14336),
    layers: fields.size('num_hidden_layers', 32),
    ...headSizes(
      fields,
      hiddenSize,
      heads,
      isGiven ? fields.size('num_key_value_heads', 8) : heads,
      fields.integerOrNull('head_dim', { from: 0 }) || null,
    ),
    maxPositionEmbeddings,
    experts,
    ffnExperts: experts,
    topK,
    slidingWindow: fields.integerOrNull('sliding_window', { from: 1 }),
    rmsNormEps: fields.number('rms_norm_eps', 1e-5, { from: 0 }),
    ...ropeFields(fields, 1e6, maxPositionEmbeddings),
    tieWordEmbeddings: fields.boolean('tie_word_embeddings', false),
    ...tokenIds(fields, { bos: 1, eos: [2] }),
    torchDtype: torchDtype(fields),
  }
  fields.refuseUnread([...IGNORED_KEYS, ...NOT_READ])
  return config
}
