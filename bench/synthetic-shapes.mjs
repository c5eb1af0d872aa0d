// The shapes of synthetic checkpoints, their tensors and configuration.
import { experts, SHAPES as PAPER_SHAPES } from './shapes.mjs'

/** The paper's models, and a tiny one for tests. */
export const SHAPES = {
  ...PAPER_SHAPES,
  tiny: { layers: 3, hidden: 192, ffn: 96, heads: 2, vocab: 2048, ffnExperts: 8, constants: 2 },
}

/**
 * Every checkpoint has two constant experts, copy and zero. The format has no others. The paper's
 * 2B model has four more constant experts, which its checkpoint here lacks. Its share of FFN picks
 * is that of all eight, and a constant vector costs nothing beside an FFN expert.
 */
export const ZERO_COMPUTATION_EXPERTS = 4

/**
 * Share of the picks that go to FFN experts in a model trained with `tau` (the paper's section
 * 3.4).
 */
export function ffnShare(shape, tau) {
  const { ffnExperts } = shape
  return (tau * ffnExperts) / (tau * ffnExperts + experts(shape) - ffnExperts)
}

/** The tensors of a checkpoint, [name, shape], in the order of the forward pass. */
export function* tensors({ hidden: H, ffn: F, layers, vocab, ffnExperts: N }) {
  const E = N + ZERO_COMPUTATION_EXPERTS
  yield ['model.embed_tokens.weight', [vocab, H]]
  for (let i = 0; i < layers; i++) {
    const layer = `model.layers.${i}`
    yield [`${layer}.input_layernorm.weight`, [H]]
    for (const name of ['q', 'k', 'v', 'o'])
      yield [`${layer}.self_attn.${name}_proj.weight`, [H, H]]
    yield [`${layer}.post_attention_layernorm.weight`, [H]]
    yield [`${layer}.mlp.moe.gate.wg.weight`, [E, H]]
    yield [`${layer}.mlp.moe.gate.gate_map.weight`, [E, E]]
    for (let e = 0; e < N; e++) {
      const expert = `${layer}.mlp.moe.experts.experts.${e}`
      yield [`${expert}.up_proj.weight`, [2 * F, H]]
      yield [`${expert}.down_proj.weight`, [H, F]]
    }
    for (const e of [N, N + 1]) {
      yield [`${layer}.mlp.moe.experts.experts.${e}.wg.weight`, [2, H]]
      yield [`${layer}.mlp.moe.experts.experts.${e}.constant`, [H]]
    }
  }
  yield ['model.norm.weight', [H]]
  yield ['lm_head.weight', [vocab, H]]
}

/**
 * config.json: the released model's flags, or for the vanilla twin those that make it a plain top-2
 * mixture.
 */
export function config(shape, vanilla) {
  return {
    architectures: ['MoeForCausalLM'],
    model_type: 'MoE++',
    vocab_size: shape.vocab,
    hidden_size: shape.hidden,
    intermediate_size: shape.ffn,
    num_hidden_layers: shape.layers,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.heads,
    num_experts: [shape.ffnExperts + ZERO_COMPUTATION_EXPERTS],
    moe_use_mixtral_gating: vanilla,
    moe_2layer_gate: false,
    moe_use_logits_norm: !vanilla,
    moe_gate_norm_std: 1.0,
    moe_feature_no_mul_topk: true,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: false,
    torch_dtype: 'bfloat16',
  }
}
