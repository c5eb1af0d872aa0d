/** Small random MoE++ checkpoints. */
import { type ReferenceConfig, ReferenceSequence, referenceConfig } from './model-f64.js'
import {
  type AddTensor,
  divisors,
  drawTensors,
  Random,
  type RandomCheckpoint,
  type Storage,
  type Stored,
  stored,
  weightFiles,
  withoutDefaults,
} from './random-checkpoint.js'

/** `forced` keys replace what the seed would choose. */
export function randomMoepp(seed: number, forced: Record<string, unknown> = {}): RandomCheckpoint {
  const random = new Random(seed)
  const config = { ...randomConfig(random), ...forced }
  const reference = referenceConfig(config)
  const storage = random.pick<Storage>(['f32', 'f32', 'f16', 'bf16', 'bf16', 'mixed'])
  const tensors = drawTensors(random, storage, add => listTensors(random, reference, add))
  const format = random.pick(['safetensors', 'safetensors-sharded', 'bin', 'bin-sharded'] as const)
  const extra = ignoredTensors(random, reference)
  return {
    config,
    vocab: reference.vocab,
    moeLayers: Array.from({ length: reference.layers }, (_, layer) => layer),
    tensors,
    sequence: (weights, precision) => new ReferenceSequence(reference, weights, precision),
    files: {
      'config.json': JSON.stringify(config),
      ...weightFiles(random, format, [...tensors, ...extra]),
    },
    description: `${storage} ${format} ${JSON.stringify(config)}`,
  }
}

// Configurations

const HEAD_DIMS = [2, 4, 6, 8, 10, 12, 16, 18, 24, 32, 34, 48, 64, 66, 80, 96, 100, 128]

function randomConfig(random: Random): Record<string, unknown> {
  const headDim = random.pick(HEAD_DIMS)
  const heads = random.integer(1, Math.max(1, Math.min(8, Math.floor(144 / headDim))))
  const kvHeads = random.pick(divisors(heads))
  const vocab = random.integer(5, 301)
  const scaling = random.pick([null, 'linear', 'ntk', 'dynamic', 'dynamic'])
  const slices = random.pick(divisors(vocab).filter(n => (kvHeads * headDim) % n === 0))
  const config: Record<string, unknown> = {
    vocab_size: vocab,
    hidden_size: heads * headDim,
    intermediate_size: random.pick([1, random.integer(2, 40), random.integer(2, 80)]),
    num_hidden_layers: random.integer(1, 4),
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    max_position_embeddings: random.pick([random.integer(1, 12), random.integer(8, 40), 2048]),
    rms_norm_eps: random.pick([1e-6, 1e-5, 1e-3]),
    rope_theta: random.pick([10000, 10000, 1000, 500000]),
    rope_scaling: scaling && { type: scaling, factor: random.pick([1.25, 2, 4, 8.5]) },
    tie_word_embeddings: random.chance(0.3),
    num_experts: [random.pick([4, 5, random.integer(4, 12), random.integer(6, 40)])],
    moe_use_mixtral_gating: random.chance(0.3),
    moe_2layer_gate: random.chance(0.4),
    moe_use_logits_norm: random.chance(0.5),
    moe_gate_norm_std: random.pick([1, 1, 0.5, 2.5]),
    moe_feature_no_mul_topk: random.chance(0.5),
    pretraining_tp: random.chance(0.3) ? slices : 1,
  }
  return disguised(random, withoutDefaults(random, config, DEFAULTS))
}

const DEFAULTS: Readonly<Record<string, unknown>> = {
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-6,
  rope_theta: 10000,
  rope_scaling: null,
  tie_word_embeddings: false,
  moe_use_mixtral_gating: false,
  moe_2layer_gate: true,
  moe_use_logits_norm: false,
  moe_gate_norm_std: 1,
  moe_feature_no_mul_topk: false,
  pretraining_tp: 1,
}

/** Other words for the same, and keys that change nothing. */
function disguised(random: Random, config: Record<string, unknown>): Record<string, unknown> {
  if (config.num_key_value_heads === config.num_attention_heads && random.chance(0.5)) {
    if (random.chance(0.5)) delete config.num_key_value_heads
    else config.num_key_value_heads = null
  }
  const isTyped = random.chance(0.3)
  if (isTyped) Object.assign(config, { model_type: 'MoE++', hidden_act: 'silu', use_cache: true })
  else config.architectures = ['MoeForCausalLM']
  if (random.chance(0.3)) Object.assign(config, { sliding_window: 64, rotary_percent: 0.5 })
  if (random.chance(0.2)) config.num_experts = [...(config.num_experts as number[]), 77]
  return config
}

// Weights

function listTensors(random: Random, c: ReferenceConfig, add: AddTensor): void {
  const { hidden: H, experts: E, headDim } = c
  const fan = 1 / Math.sqrt(H)
  add('model.embed_tokens.weight', [c.vocab, H], random.pick([0.5, 1]))
  // With the last, without logits norm, the largest probability of a softmax leaves others nothing.
  const router = random.pick([0.7, 0.7, 1.5, 1.5, 3, 60])
  for (let layer = 0; layer < c.layers; layer++) {
    const prefix = `model.layers.${layer}`
    add(`${prefix}.input_layernorm.weight`, [H], 0.2, 1)
    add(`${prefix}.self_attn.q_proj.weight`, [H, H], 1.2 * fan)
    add(`${prefix}.self_attn.k_proj.weight`, [c.kvHeads * headDim, H], 1.2 * fan)
    add(`${prefix}.self_attn.v_proj.weight`, [c.kvHeads * headDim, H], fan)
    add(`${prefix}.self_attn.o_proj.weight`, [H, H], 0.8 * fan)
    add(`${prefix}.post_attention_layernorm.weight`, [H], 0.2, 1)
    const gate = `${prefix}.mlp.moe.gate`
    if (c.twoLayerRouter) {
      add(`${gate}.wg.0.weight`, [8 * E, H], fan)
      add(`${gate}.wg.2.weight`, [E, 8 * E], (1.6 * router) / Math.sqrt(8 * E))
    } else add(`${gate}.wg.weight`, [E, H], router * fan)
    // Layer 0's is never used: large values would show.
    add(`${gate}.gate_map.weight`, [E, E], layer === 0 ? 1000 : 0.7 / Math.sqrt(E))
    for (let e = 0; e < E - 4; e++) {
      const expert = `${prefix}.mlp.moe.experts.experts.${e}`
      add(`${expert}.up_proj.weight`, [2 * c.intermediate, H], (c.doubled ? 0.7 : 1.3) * fan)
      add(`${expert}.down_proj.weight`, [H, c.intermediate], 1 / Math.sqrt(c.intermediate))
    }
    for (const e of [E - 4, E - 3]) {
      add(`${prefix}.mlp.moe.experts.experts.${e}.wg.weight`, [2, H], fan)
      add(`${prefix}.mlp.moe.experts.experts.${e}.constant`, [H], 0.8)
    }
  }
  add('model.norm.weight', [H], 0.2, 1)
  // If the embedding is the head, a stored head is ignored.
  if (!c.tied || random.chance(0.3)) add('lm_head.weight', [c.vocab, H], 2 * fan)
}

/** Tensors that the model does not have. */
function ignoredTensors(random: Random, { layers, headDim }: ReferenceConfig): Stored[] {
  if (random.chance(0.5)) return []
  const extra: Stored[] = []
  for (let layer = 0; layer < layers; layer++) {
    const name = `model.layers.${layer}.self_attn.rotary_emb.inv_freq`
    extra.push(stored(name, [headDim / 2], 'f32', () => 7))
  }
  const others = [
    'model.layers.99.mlp.moe.gate.wg.weight',
    'model.steps',
    'model.mean',
    'model.empty',
  ]
  const [layer99, steps, mean, empty] = others as [string, string, string, string]
  extra.push(stored(layer99, [3, 2], 'f16', () => NaN))
  extra.push(stored(steps, [], 'i64', () => 1))
  extra.push(stored(mean, [1, 3], 'f64', () => Math.PI))
  extra.push(stored(empty, [0, 4], 'f32', () => 1))
  return extra
}
