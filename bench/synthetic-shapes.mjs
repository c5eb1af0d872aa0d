// The shapes of synthetic checkpoints, and their configuration.
import { experts, SHAPES as PAPER_SHAPES } from './shapes.mjs'

/** Of models with rotated heads of their own size, and any number of picks. */
const GROUPED = {
  'qwen3-30b-a3b': {
    family: 'qwen3',
    layers: 48,
    hidden: 2048,
    ffn: 768,
    heads: 32,
    kvHeads: 4,
    headDim: 128,
    vocab: 151936,
    ffnExperts: 128,
    topK: 8,
  },
  'mixtral-8x7b': {
    family: 'mixtral',
    layers: 32,
    hidden: 4096,
    ffn: 14336,
    heads: 32,
    kvHeads: 8,
    headDim: 128,
    vocab: 32000,
    ffnExperts: 8,
    topK: 2,
  },
}

/** Of models with multi-head latent attention. */
const LATENT = {
  'glm-4.7-flash': {
    family: 'glm4',
    layers: 47,
    hidden: 2048,
    ffn: 1536,
    denseFfn: 10240,
    heads: 20,
    queryRank: 768,
    latentRank: 512,
    plainDim: 192,
    rotatedDim: 64,
    valueDim: 256,
    vocab: 154880,
    ffnExperts: 64,
    topK: 4,
  },
  /** Without the tables of its n-gram embedding. */
  'longcat-flash-lite': {
    family: 'longcat',
    layers: 14,
    hidden: 3072,
    ffn: 1024,
    denseFfn: 6144,
    heads: 32,
    queryRank: 1536,
    latentRank: 512,
    plainDim: 128,
    rotatedDim: 64,
    valueDim: 128,
    vocab: 131072,
    ffnExperts: 256,
    identities: 128,
    topK: 12,
  },
}

/**
 * GLM-4.7-Flash if its cache held the keys and values of all heads: Qwen3's layer of the same
 * sizes. A fifth pick stands for the shared expert, so a token reads as many experts.
 */
const FULL_HEADS = {
  'glm-4.7-flash-full-heads': {
    family: 'qwen3',
    layers: 47,
    hidden: 2048,
    ffn: 1536,
    heads: 20,
    kvHeads: 20,
    headDim: 256,
    vocab: 154880,
    ffnExperts: 64,
    topK: 5,
  },
}

/** As small as their routing allows, and one whose experts are most of it: for tests. */
const TINY_LATENTS = {
  layers: 3,
  hidden: 192,
  ffn: 64,
  denseFfn: 128,
  heads: 3,
  queryRank: 96,
  latentRank: 64,
  plainDim: 32,
  rotatedDim: 32,
  valueDim: 64,
  vocab: 2048,
  ffnExperts: 16,
  topK: 4,
}
const TINY = {
  'tiny-glm': { ...TINY_LATENTS, family: 'glm4' },
  /** Attention and layers so strong that a fault in either changes the text. */
  'strong-glm': { ...TINY_LATENTS, family: 'glm4', strong: true },
  'tiny-longcat': { ...TINY_LATENTS, family: 'longcat', identities: 8 },
  tiny: { layers: 3, hidden: 192, ffn: 96, heads: 2, vocab: 2048, ffnExperts: 8, constants: 2 },
  'large-experts': {
    layers: 2,
    hidden: 768,
    ffn: 2048,
    heads: 12,
    vocab: 2048,
    ffnExperts: 8,
    constants: 2,
  },
  'tiny-qwen3': {
    ...GROUPED['qwen3-30b-a3b'],
    layers: 3,
    hidden: 192,
    ffn: 64,
    heads: 8,
    kvHeads: 2,
    headDim: 32,
    vocab: 2048,
    ffnExperts: 16,
    topK: 4,
  },
  'tiny-mixtral': {
    ...GROUPED['mixtral-8x7b'],
    layers: 3,
    hidden: 192,
    ffn: 128,
    heads: 4,
    kvHeads: 2,
    headDim: 32,
    vocab: 2048,
    ffnExperts: 4,
  },
}

const PLUS_PLUS = { family: 'moepp', topK: 2 }

/** The paper's models, those of other families, and tiny ones for tests. */
export const SHAPES = Object.fromEntries(
  Object.entries({ ...PAPER_SHAPES, ...GROUPED, ...LATENT, ...FULL_HEADS, ...TINY }).map(
    ([name, shape]) => [name, { ...PLUS_PLUS, ...shape }],
  ),
)

/**
 * A MoE++ checkpoint has two constant experts, copy and zero. The format has no others. The paper's
 * 2B model has four more constant experts, which its checkpoint here lacks. Its share of FFN picks
 * is that of all eight, and a constant vector costs nothing beside an FFN expert.
 */
const ZERO_COMPUTATION_EXPERTS = 4

/** Families that zero experts can be added to. */
export const TAKES_ZERO_EXPERTS = new Set(['qwen3', 'glm4'])

/**
 * The make-up of a checkpoint. It is its shape with E, the number of all experts, and the share of
 * the picks that go to those with an FFN. `tau` is the paper's (section 3.4). Of `zero` added
 * experts' models, half of the picks are zero unless tau says otherwise. LongCat's identity experts
 * have as many picks as their number says, a third.
 */
export function makeup(shape, { tau, vanilla, zero }) {
  const { family, ffnExperts: N } = shape
  if (family === 'moepp') {
    const others = experts(shape) - N
    const share = vanilla ? 1 : shareOf(tau ?? 0.75, N, others)
    return { ...shape, share, experts: N + ZERO_COMPUTATION_EXPERTS }
  }
  const { identities } = shape
  const others = vanilla ? 0 : (identities ?? zero)
  if (others === 0) return { ...shape, share: 1, experts: N }
  const usual = identities ? 1 : zero / N
  return { ...shape, share: shareOf(tau ?? usual, N, others), experts: N + others }
}

const shareOf = (tau, ffnExperts, others) => (tau * ffnExperts) / (tau * ffnExperts + others)

/** config.json of a make-up. */
export function config(shape) {
  return {
    ...CONFIGS[shape.family](shape),
    vocab_size: shape.vocab,
    hidden_size: shape.hidden,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.kvHeads ?? shape.heads,
    rms_norm_eps: 1e-6,
    tie_word_embeddings: false,
    torch_dtype: 'bfloat16',
  }
}

const zeroExperts = count =>
  count > 0 && { zce_nums: [count], zce_types: ['zero'], use_zce_mask: false }

const latents = shape => ({
  q_lora_rank: shape.queryRank,
  kv_lora_rank: shape.latentRank,
  qk_nope_head_dim: shape.plainDim,
  qk_rope_head_dim: shape.rotatedDim,
  v_head_dim: shape.valueDim,
})

const CONFIGS = {
  /** The released model's flags, or for the vanilla twin those of a plain top-2 mixture. */
  moepp: ({ ffn, experts: E, share }) => ({
    architectures: ['MoeForCausalLM'],
    model_type: 'MoE++',
    intermediate_size: ffn,
    num_experts: [E],
    moe_use_mixtral_gating: share === 1,
    moe_2layer_gate: false,
    moe_use_logits_norm: share < 1,
    moe_gate_norm_std: 1.0,
    moe_feature_no_mul_topk: true,
    max_position_embeddings: 2048,
    rope_theta: 10000,
  }),
  qwen3: ({ ffn, headDim, experts: E, ffnExperts: N, topK }) => ({
    architectures: [E > N ? 'Qwen3MoePlusPlusForCausalLM' : 'Qwen3MoeForCausalLM'],
    model_type: 'qwen3_moe',
    head_dim: headDim,
    moe_intermediate_size: ffn,
    num_experts: N,
    num_experts_per_tok: topK,
    norm_topk_prob: true,
    ...zeroExperts(E - N),
    max_position_embeddings: 40960,
    rope_theta: 1000000,
  }),
  glm4: ({ experts: E, ffnExperts: N, ...shape }) => ({
    architectures: [E > N ? 'Glm4MoeLitePlusPlusForCausalLM' : 'Glm4MoeLiteForCausalLM'],
    model_type: 'glm4_moe_lite',
    ...latents(shape),
    intermediate_size: shape.denseFfn,
    moe_intermediate_size: shape.ffn,
    n_routed_experts: N,
    n_shared_experts: 1,
    num_experts_per_tok: shape.topK,
    norm_topk_prob: true,
    routed_scaling_factor: 1.8,
    ...zeroExperts(E - N),
    max_position_embeddings: 202752,
    rope_theta: 1000000,
  }),
  longcat: ({ experts: E, ffnExperts: N, ...shape }) => ({
    architectures: ['LongcatFlashForCausalLM'],
    model_type: 'longcat_flash',
    num_layers: shape.layers,
    ...latents(shape),
    ffn_hidden_size: shape.denseFfn,
    expert_ffn_hidden_size: shape.ffn,
    n_routed_experts: N,
    zero_expert_num: E - N,
    zero_expert_type: 'identity',
    moe_topk: shape.topK,
    routed_scaling_factor: 6,
    max_position_embeddings: 327680,
    rope_theta: 5000000,
  }),
  mixtral: ({ ffn, headDim, ffnExperts: N, topK }) => ({
    architectures: ['MixtralForCausalLM'],
    model_type: 'mixtral',
    head_dim: headDim,
    intermediate_size: ffn,
    num_local_experts: N,
    num_experts_per_tok: topK,
    max_position_embeddings: 32768,
    rope_theta: 1000000,
  }),
}
