/** Small random checkpoints of GLM-4.7-Flash, its ++ and LongCat-Flash, of any configuration. */
import type { LatentFamily } from '../support/golden.js'
import { headParts, type LatentConfig, LatentSequence, latentConfig } from './latent-f64.js'
import {
  type AddTensor,
  divisors,
  drawTensors,
  Random,
  type RandomCheckpoint,
  type Storage,
  stored,
  weightFiles,
  withoutDefaults,
} from './random-checkpoint.js'
import { listExperts, listFfn, listHead, randomRope, sum, zeroKeys } from './random-families.js'

type Config = Record<string, unknown>

/** `forced` keys replace what the seed would choose. */
export function randomLatent(
  family: LatentFamily,
  seed: number,
  forced: Config = {},
): RandomCheckpoint {
  const random = new Random(seed)
  const config = { ...randomConfig(random, family), ...forced }
  const c = latentConfig(config)
  const storage = random.pick<Storage>(['f32', 'f32', 'f16', 'bf16', 'bf16', 'mixed'])
  const tensors = drawTensors(random, storage, add => listTensors(random, c, add))
  const format = random.pick(['safetensors', 'safetensors-sharded', 'bin'] as const)
  // Of layers for multi-token prediction: not loaded.
  const extra = [`model.layers.${c.layers}.eh_proj.weight`, 'model.mtp.norm.weight']
  const others = random.chance(0.4) ? extra.map(name => stored(name, [3, 2], 'f16', () => NaN)) : []
  return {
    config,
    vocab: c.vocab,
    moeLayers: c.dense.flatMap((dense, layer) => (dense ? [] : [layer])),
    tensors: tensors.flatMap(tensor => headParts(tensor, c)),
    sequence: (weights, precision) => new LatentSequence(c, weights, precision),
    files: {
      'config.json': JSON.stringify(config),
      ...weightFiles(random, format, [...tensors, ...others]),
    },
    description: `${storage} ${format} ${JSON.stringify(config)}`,
  }
}

// Configurations

const ROTATED = [2, 4, 6, 8, 16, 24, 64]

function randomConfig(random: Random, family: LatentFamily): Config {
  const isLongcat = family === 'longcat_flash'
  const config: Config = {
    vocab_size: random.integer(5, 301),
    hidden_size: random.integer(3, 110),
    num_attention_heads: random.integer(1, 6),
    q_lora_rank: random.chance(0.3) && !isLongcat ? null : random.integer(1, 60),
    kv_lora_rank: random.pick([random.integer(1, 9), random.integer(5, 70), 128]),
    qk_nope_head_dim: random.integer(1, 40),
    qk_rope_head_dim: random.pick(ROTATED),
    v_head_dim: random.integer(1, 40),
    max_position_embeddings: random.pick([random.integer(2, 12), random.integer(8, 40), 4096]),
    rms_norm_eps: random.pick([1e-6, 1e-5, 1e-3]),
    routed_scaling_factor: random.pick([1, 1.8, 2.5]),
    attention_bias: random.chance(0.3),
    tie_word_embeddings: random.chance(0.3),
    ...randomRope(random),
  }
  const sized = isLongcat ? longcatKeys(random) : glmKeys(random, family)
  return withoutDefaults(random, { ...config, ...sized }, isLongcat ? LONGCAT : GLM)
}

function longcatKeys(random: Random): Config {
  const experts = random.pick([random.integer(1, 5), random.integer(4, 16), random.integer(17, 48)])
  const identities = random.pick([0, random.integer(1, 4), random.integer(3, 20)])
  return {
    architectures: [random.pick(['LongcatFlashForCausalLM', 'LongcatCausalLM'])],
    model_type: 'longcat_flash',
    num_layers: random.integer(1, 2),
    ffn_hidden_size: random.integer(1, 60),
    expert_ffn_hidden_size: random.integer(1, 40),
    n_routed_experts: experts,
    zero_expert_num: identities,
    moe_topk: random.integer(1, Math.min(experts + identities, random.pick([2, 8, 16]))),
    ...(random.chance(0.3) && { zero_expert_type: 'identity', num_hidden_layers: 9 }),
  }
}

function glmKeys(random: Random, family: LatentFamily): Config {
  const isPlusPlus = family === 'glm4_moe_lite_plus_plus'
  const layers = random.integer(1, 4)
  const ffn = random.pick([random.integer(1, 5), random.integer(4, 16), random.integer(17, 48)])
  const zero = zeroKeys(random)
  const experts = isPlusPlus ? ffn + sum(zero.zce_nums) : ffn
  const counts = divisors(experts).filter(n => n === 1 || (n <= 32 && experts / n >= 2))
  const groups = random.pick([1, random.pick(counts)])
  const chosen = random.integer(1, groups)
  const sparse = random.integer(0, layers - 1)
  const types = Array.from({ length: layers }, (_, layer) =>
    layer !== sparse && random.chance(0.3) ? 'dense' : 'sparse',
  )
  return {
    architectures: [isPlusPlus ? 'Glm4MoeLitePlusPlusForCausalLM' : 'Glm4MoeLiteForCausalLM'],
    model_type: 'glm4_moe_lite',
    num_hidden_layers: layers,
    intermediate_size: random.integer(1, 60),
    moe_intermediate_size: random.integer(1, 40),
    n_routed_experts: ffn,
    n_shared_experts: random.integer(0, 2),
    // Picks from excluded groups score 0, as many do: their order would not be known.
    num_experts_per_tok: random.integer(1, Math.min((experts / groups) * chosen, 16)),
    norm_topk_prob: random.chance(0.6),
    n_group: groups,
    topk_group: chosen,
    rope_interleave: random.chance(0.5),
    mlp_layer_types: types,
    ...(random.chance(0.3) && { first_k_dense_replace: 1, num_nextn_predict_layers: 1 }),
    ...(isPlusPlus && zero),
  }
}

const BOTH: Config = {
  rms_norm_eps: 1e-5,
  rope_scaling: null,
  attention_bias: false,
  tie_word_embeddings: false,
  qk_rope_head_dim: 64,
}
const LONGCAT: Config = { ...BOTH, kv_lora_rank: 512 }
const GLM: Config = {
  ...BOTH,
  rope_theta: 1e6,
  routed_scaling_factor: 1.8,
  norm_topk_prob: true,
  n_group: 1,
  topk_group: 1,
  n_shared_experts: 1,
  rope_interleave: true,
  use_zce_mask: true,
}

// Weights

function listTensors(random: Random, c: LatentConfig, add: AddTensor): void {
  const { hidden: H, glm } = c
  const router = random.pick([0.7, 1.5, 3])
  const bias = random.pick([0.02, 0.3])
  add('model.embed_tokens.weight', [c.vocab, H], random.pick([0.5, 1]))
  for (let layer = 0; layer < c.layers; layer++) {
    const prefix = `model.layers.${layer}`
    // LongCat's layers have two of each.
    for (const part of glm ? [''] : ['.0', '.1']) {
      add(`${prefix}.input_layernorm${part}.weight`, [H], 0.2, 1)
      add(`${prefix}.post_attention_layernorm${part}.weight`, [H], 0.2, 1)
      listAttention(c, `${prefix}.self_attn${part}`, add)
      if (!glm) listFfn(c, `${prefix}.mlps${part}`, c.denseIntermediate, add)
    }
    const block = `${prefix}.${c.names.block}`
    if (c.dense[layer]) {
      listFfn(c, block, c.denseIntermediate, add)
      continue
    }
    listExperts(c, block, router, add)
    // Above 0 with groups: else several of excluded experts, which all score 0, would be next.
    const mean = (glm?.groups ?? 1) > 1 ? 4 * bias : 0
    add(`${prefix}.${c.choiceBias}`, [c.ffnExperts + c.zero.length], bias, mean)
    if (glm?.shared) listFfn(c, `${block}.shared_experts`, glm.shared, add)
  }
  listHead(random, c, add)
}

function listAttention(c: LatentConfig, own: string, add: AddTensor): void {
  const { hidden: H, heads, headDim: R, plainDim: N, valueDim: V, latentRank: C, queryRank } = c
  const matrix = (name: string, rows: number, columns: number, scale: number) =>
    add(`${own}.${name}.weight`, [rows, columns], scale / Math.sqrt(columns))
  // Factors of LongCat's queries and latents undo themselves here.
  const [query, latent] = c.glm ? [1, 1] : [Math.sqrt(H / queryRank!), c.latentScale]
  if (queryRank === null) matrix('q_proj', heads * (N + R), H, 1.2)
  else {
    matrix('q_a_proj', queryRank, H, 1.2)
    add(`${own}.q_a_layernorm.weight`, [queryRank], 0.2, 1)
    matrix('q_b_proj', heads * (N + R), queryRank, 1.2 / query)
  }
  matrix('kv_a_proj_with_mqa', C + R, H, 1.2)
  add(`${own}.kv_a_layernorm.weight`, [C], 0.2, 1)
  matrix('kv_b_proj', heads * (N + V), C, 1.2 / latent)
  matrix('o_proj', H, heads * V, 0.8)
  if (!c.biases) return
  if (queryRank !== null) add(`${own}.q_a_proj.bias`, [queryRank], 0.3)
  add(`${own}.kv_a_proj_with_mqa.bias`, [C + R], 0.3)
  add(`${own}.o_proj.bias`, [H], 0.3)
}
