/** GLM-4.7-Flash, as transformers 5.1 computes it: docs/models/glm4-moe-lite.md. */
import type { Fields } from '../base/fields.js'
import { show } from '../base/json.js'
import { decoder, type NextNorm } from '../layers/decoder.js'
import { latentAttention } from '../layers/latent-attention.js'
import { mlp } from '../layers/mlp.js'
import { moe } from '../layers/moe.js'
import { Rope } from '../layers/rope.js'
import type { Buffer } from '../program/builder.js'
import type { ModelBuilder } from '../program/model-builder.js'
import { type ExpertRuns, expertCount } from '../program/moe-ops.js'
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
import { storedConstants, storedExperts, storedMlp } from './stored-parts.js'
import type { ZeroComputation } from './zero-computation.js'

export interface Glm4MoeLiteConfig extends ModelConfig, LatentSizes {
  /** Of dense layers. */
  readonly denseSize: number
  /** By layer: true if it is dense. */
  readonly isDense: readonly boolean[]
  /** Shared experts: one network of so many times the intermediate size. */
  readonly sharedExperts: number
  /** Experts by kind, in order; those with a feed-forward network first. */
  readonly runs: ExpertRuns
  /** Zero-computation experts score 0. They may be chosen all the same, as upstream does it. */
  readonly masked: boolean
  readonly groups: { readonly count: number; readonly chosen: number }
  /** The weights of the picks are divided by their sum. */
  readonly normalise: boolean
  /** Factor of the picks' weights. */
  readonly routedScale: number
  /** Rotated pairs are neighbours. */
  readonly interleaved: boolean
  readonly attentionBias: boolean
}

export const glm4MoeLite: Family = {
  name: 'glm4-moe-lite',
  architectures: ['Glm4MoeLiteForCausalLM'],
  modelTypes: ['glm4_moe_lite'],
  describe: fields =>
    describeGlm4MoeLite(fields, 'glm4-moe-lite', () => ({ runs: [], masked: false })),
}

/** `zero` reads the keys of zero-computation experts. */
export function describeGlm4MoeLite(
  fields: Fields,
  family: string,
  zero: (fields: Fields) => ZeroComputation,
): ModelDescription {
  const c = parse(fields, family, zero(fields))
  const rope = new Rope({ ...c, headDim: c.rotatedDim })
  const shape = { ...c, bias: c.attentionBias, scale: latentScale(c, c.ropeScaling) }
  return {
    config: c,
    routerNotes: [
      'sigmoid scores, a bias for the choice',
      ...(c.normalise ? ['weights divided by their sum'] : []),
      ...(c.masked ? ['zero-computation experts score 0'] : []),
    ],
    rope,
    predictionLayer: name => layerPast(c.layers, name),
    record(m) {
      decoder(m, c, rope, (layer, { x, y }, inputs, next) => {
        const stored = `model.layers.${layer}.self_attn`
        const scope = `layers.${layer}.attention`
        const input = { x, delta: latentAttention(m, scope, stored, y, inputs, shape) }
        if (!c.isDense[layer]) return recordMoe(m, c, layer, input, next)
        const parts = storedMlp(m, `model.layers.${layer}.mlp`, c.hiddenSize, c.denseSize)
        return mlp(m, layer, input, parts, next)
      })
    },
  }
}

/** Layers for multi-token prediction are stored past the last. */
function layerPast(layers: number, name: string): number | undefined {
  const layer = Number(/^model\.layers\.(\d+)\./.exec(name)?.[1])
  return layer >= layers ? layer - layers : undefined
}

function recordMoe(
  m: ModelBuilder,
  c: Glm4MoeLiteConfig,
  layer: number,
  input: { x: Buffer; delta: Buffer },
  next: NextNorm,
) {
  const block = `model.layers.${layer}.mlp`
  const { topK, runs: experts, normalise, masked, groups, routedScale: weightScale } = c
  const shared = c.sharedExperts * c.intermediateSize
  return moe(
    m,
    layer,
    input,
    {
      gating: { scores: 'sigmoid', topK, experts, normalise, masked, groups, weightScale },
      router: m.small('router', `${block}.gate.weight`, [c.experts, c.hiddenSize]),
      selectionBias: m.small('router', `${block}.gate.e_score_correction_bias`, [c.experts]),
      constants: storedConstants(m, `${block}.experts`, experts, c.hiddenSize),
      ...storedExperts(m, layer, `${block}.experts`, c),
      shared:
        shared > 0 ? storedMlp(m, `${block}.shared_experts`, c.hiddenSize, shared) : undefined,
    },
    next,
  )
}

/** Keys of published files that upstream does not read when it computes. */
const NOT_READ = keys(`
  attention_dropout first_k_dense_replace num_nextn_predict_layers topk_method head_dim qk_head_dim
  num_key_value_heads scoring_func ep_size
`)

function parse(fields: Fields, family: string, zero: ZeroComputation): Glm4MoeLiteConfig {
  siluOnly(fields)
  const layers = fields.size('num_hidden_layers', 47)
  const heads = latentHeads(fields, 20)
  const maxPositionEmbeddings = fields.size('max_position_embeddings', 202752)
  const ffnExperts = fields.size('n_routed_experts', 64)
  const runs: ExpertRuns = [{ kind: 'ffn', count: ffnExperts }, ...zero.runs]
  const experts = expertCount(runs)
  const topK = fields.size('num_experts_per_tok', 4)
  checkExperts(fields, experts, topK)
  const sizes = latentSizes(fields, {
    ...{ queryRank: 768, latentRank: 512, plainDim: 192, rotatedDim: 64, valueDim: 256 },
  })
  const config: Glm4MoeLiteConfig = {
    family,
    vocabSize: fields.size('vocab_size', 154880),
    hiddenSize: fields.size('hidden_size', 2048),
    intermediateSize: fields.size('moe_intermediate_size', 1536),
    denseSize: fields.size('intermediate_size', 10240),
    layers,
    isDense: denseLayers(fields, layers),
    heads,
    kvHeads: heads,
    headDim: sizes.plainDim + sizes.rotatedDim,
    ...sizes,
    maxPositionEmbeddings,
    experts,
    ffnExperts,
    sharedExperts: fields.integer('n_shared_experts', 1, { from: 0 }),
    runs,
    masked: zero.masked,
    topK,
    groups: expertGroups(fields, experts),
    normalise: fields.boolean('norm_topk_prob', true),
    routedScale: fields.number('routed_scaling_factor', 1.8, { above: 0 }),
    interleaved: fields.boolean('rope_interleave', true),
    attentionBias: fields.boolean('attention_bias', false),
    rmsNormEps: fields.number('rms_norm_eps', 1e-5, { from: 0 }),
    ...ropeFields(fields, 1e6, maxPositionEmbeddings),
    tieWordEmbeddings: fields.boolean('tie_word_embeddings', false),
    ...tokenIds(fields, { bos: null, eos: [] }),
    torchDtype: torchDtype(fields),
  }
  fields.refuseUnread([...IGNORED_KEYS, ...NOT_READ])
  return config
}

/** The first layer alone, unless the file names each. */
function denseLayers(fields: Fields, layers: number): boolean[] {
  const types = fields.take('mlp_layer_types') ?? undefined
  if (types === undefined) return Array.from({ length: layers }, (_, layer) => layer === 0)
  const isNamed = (type: unknown) => type === 'dense' || type === 'sparse'
  if (!Array.isArray(types) || types.length !== layers || !types.every(isNamed)) {
    throw fields.bad(
      `mlp_layer_types is ${show(types)}, expected dense or sparse for each of ${layers} layers`,
    )
  }
  return types.map(type => type === 'dense')
}

/** The kernels' limit. */
const MAX_GROUPS = 32

/** Groups run over all experts, those without computation included. */
function expertGroups(fields: Fields, experts: number) {
  const count = fields.size('n_group', 1)
  const chosen = fields.size('topk_group', 1)
  if (count > MAX_GROUPS || experts % count !== 0 || (count > 1 && experts / count < 2)) {
    throw fields.bad(
      `n_group is ${count}, expected at most ${MAX_GROUPS} equal groups of two or more of ${experts} experts`,
    )
  }
  if (chosen > count) throw fields.bad(`topk_group is ${chosen}, expected at most ${count}`)
  return { count, chosen }
}
