// The paper's models (arXiv 2410.07348, table 2), and a tiny one for tests.

/**
 * `zeroComputation` is the paper's number of zero-computation experts, which sets the share of FFN picks. The checkpoints hold four
 * throughout (two constant ones, copy, zero): the released code has no others, and what else the paper's 2B model has are
 * constant vectors, whose cost is nothing beside an FFN expert's.
 */
export const SHAPES = {
  '7b': { hidden: 1536, ffn: 4096, layers: 24, heads: 16, vocab: 65536, ffnExperts: 16, zeroComputation: 4 },
  '2b': { hidden: 768, ffn: 2048, layers: 12, heads: 12, vocab: 65536, ffnExperts: 32, zeroComputation: 8 },
  '1b': { hidden: 768, ffn: 2048, layers: 12, heads: 12, vocab: 65536, ffnExperts: 16, zeroComputation: 4 },
  '0.6b': { hidden: 768, ffn: 2048, layers: 12, heads: 12, vocab: 65536, ffnExperts: 8, zeroComputation: 4 },
  tiny: { hidden: 192, ffn: 96, layers: 3, heads: 2, vocab: 2048, ffnExperts: 8, zeroComputation: 4 },
}

/** Two constant experts, copy, zero. */
export const ZERO_COMPUTATION_EXPERTS = 4

/** Share of the picks that go to FFN experts in a model trained with `tau` (the paper's section 3.4). */
export function ffnShare({ ffnExperts, zeroComputation }, tau) {
  return (tau * ffnExperts) / (tau * ffnExperts + zeroComputation)
}

/** The tensors of a checkpoint, [name, shape], in the order of the forward pass. */
export function* tensors({ hidden: H, ffn: F, layers, vocab, ffnExperts: N }) {
  const E = N + ZERO_COMPUTATION_EXPERTS
  yield ['model.embed_tokens.weight', [vocab, H]]
  for (let i = 0; i < layers; i++) {
    const layer = `model.layers.${i}`
    yield [`${layer}.input_layernorm.weight`, [H]]
    for (const name of ['q', 'k', 'v', 'o']) yield [`${layer}.self_attn.${name}_proj.weight`, [H, H]]
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

/** config.json: the released model's flags, or for the vanilla twin those that make it a plain top-2 mixture. */
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
