/** Small random checkpoints of Qwen3-MoE, Qwen3-MoE++ and Mixtral: every key of config.json. */
import type { Family, LatentFamily } from '../support/golden.js'
import { type FamilyConfig, FamilySequence, familyConfig } from './families-f64.js'
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

export type OtherFamily = Exclude<Family, 'moepp' | LatentFamily>

type Config = Record<string, unknown>

/** `forced` keys replace what the seed would choose. */
export function randomOfFamily(
  family: OtherFamily,
  seed: number,
  forced: Config = {},
): RandomCheckpoint {
  const random = new Random(seed)
  const config = { ...randomConfig(random, family), ...forced }
  const c = familyConfig(config)
  const storage = random.pick<Storage>(['f32', 'f32', 'f16', 'bf16', 'bf16', 'mixed'])
  const tensors = drawTensors(random, storage, add => listTensors(random, c, add))
  const format = random.pick(['safetensors', 'safetensors-sharded', 'bin'] as const)
  // Of a prediction layer past the last, and of another head: not of the model.
  const extra = [`model.layers.${c.layers}.self_attn.q_proj.weight`, 'model.mtp.norm.weight']
  const others = random.chance(0.4) ? extra.map(name => stored(name, [3, 2], 'f16', () => NaN)) : []
  return {
    config,
    vocab: c.vocab,
    moeLayers: c.dense.flatMap((dense, layer) => (dense ? [] : [layer])),
    tensors,
    sequence: (weights, precision) => new FamilySequence(c, weights, precision),
    files: {
      'config.json': JSON.stringify(config),
      ...weightFiles(random, format, [...tensors, ...others]),
    },
    description: `${storage} ${format} ${JSON.stringify(config)}`,
  }
}

// Configurations

const HEAD_DIMS = [2, 4, 6, 8, 10, 16, 24, 32, 48, 64, 96, 128]

function randomConfig(random: Random, family: OtherFamily): Config {
  const heads = random.integer(1, 6)
  const headDim = random.pick(HEAD_DIMS)
  const implied = random.chance(0.3)
  const config: Config = {
    vocab_size: random.integer(5, 301),
    hidden_size: implied ? heads * headDim : random.integer(3, 110),
    num_hidden_layers: random.integer(1, 4),
    num_attention_heads: heads,
    num_key_value_heads: random.pick(divisors(heads)),
    max_position_embeddings: random.pick([random.integer(2, 12), random.integer(8, 40), 4096]),
    rms_norm_eps: random.pick([1e-6, 1e-5, 1e-3]),
    tie_word_embeddings: random.chance(0.3),
    ...randomRope(random),
    ...(implied ? {} : { head_dim: headDim }),
  }
  const sized = family === 'mixtral' ? mixtralKeys(random) : qwen3Keys(random, family, config)
  return withoutDefaults(random, { ...config, ...sized }, DEFAULTS[family])
}

function mixtralKeys(random: Random): Config {
  const experts = random.pick([1, 2, random.integer(3, 12)])
  return {
    architectures: ['MixtralForCausalLM'],
    model_type: 'mixtral',
    intermediate_size: random.integer(1, 60),
    num_local_experts: experts,
    num_experts_per_tok: random.integer(1, Math.min(experts, 8)),
    sliding_window: random.pick([null, null, 1, random.integer(2, 20), 70]),
  }
}

function qwen3Keys(random: Random, family: OtherFamily, { num_hidden_layers: L }: Config): Config {
  const experts = random.pick([random.integer(1, 5), random.integer(4, 16), random.integer(17, 48)])
  const layers = Array.from({ length: L as number }, (_, layer) => layer)
  const sparse = random.integer(0, layers.length - 1)
  const step = random.pick(divisors(sparse + 1))
  const isPlusPlus = family === 'qwen3_moe_plus_plus'
  const zero = zeroKeys(random)
  const all = isPlusPlus && !zero.use_zce_mask ? experts + sum(zero.zce_nums) : experts
  return {
    architectures: [isPlusPlus ? 'Qwen3MoePlusPlusForCausalLM' : 'Qwen3MoeForCausalLM'],
    model_type: isPlusPlus && random.chance(0.5) ? 'qwen3_moe_plus_plus' : 'qwen3_moe',
    intermediate_size: random.integer(1, 60),
    moe_intermediate_size: random.integer(1, 40),
    num_experts: experts,
    num_experts_per_tok: random.integer(1, Math.min(all, random.pick([2, 8, 16]))),
    norm_topk_prob: random.chance(0.6),
    decoder_sparse_step: step,
    mlp_only_layers: layers.filter(layer => layer !== sparse && random.chance(0.2)),
    attention_bias: random.chance(0.3),
    use_sliding_window: random.chance(0.3),
    sliding_window: random.pick([1, random.integer(2, 20), 70, 4096]),
    ...(random.chance(0.3) && { max_window_layers: 1, router_aux_loss_coef: 0.001 }),
    ...(isPlusPlus && zero),
  }
}

export const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0)

/** Of ZEDA's families. */
export function zeroKeys(random: Random) {
  const types = random.shuffled(['zero', 'copy', 'constant']).slice(0, random.integer(1, 3))
  const counts = types.map(() => random.pick([1, random.integer(1, 4), random.integer(3, 20)]))
  return { zce_nums: counts, zce_types: types, use_zce_mask: random.chance(0.2) }
}

/** In the style of transformers 4, or of 5. */
export function randomRope(random: Random): Config {
  const theta = random.pick([10000, 1000, 1e6])
  const kind = random.pick(['default', 'default', 'linear', 'dynamic', 'yarn', 'yarn'])
  const factor = random.pick([1.25, 2, 4, 8.5])
  const scaling: Config = { factor, ...(kind === 'yarn' && yarnKeys(random)) }
  if (random.chance(0.3)) {
    const keys = kind === 'default' ? {} : scaling
    return { rope_parameters: { rope_theta: theta, rope_type: kind, ...keys } }
  }
  const name = random.pick(['rope_type', 'type'])
  return {
    rope_theta: theta,
    rope_scaling: kind === 'default' ? null : { [name]: kind, ...scaling },
  }
}

function yarnKeys(random: Random): Config {
  const keys: Config = {}
  if (random.chance(0.6)) keys.original_max_position_embeddings = random.pick([4, 16, 512])
  if (random.chance(0.3)) Object.assign(keys, { beta_fast: 16, beta_slow: 2 })
  if (random.chance(0.3)) keys.truncate = false
  if (random.chance(0.3)) keys.attention_factor = random.pick([0.8, 1.2])
  else if (random.chance(0.4)) Object.assign(keys, { mscale: 0.7, mscale_all_dim: 1 })
  return keys
}

const QWEN3: Config = {
  num_key_value_heads: 4,
  max_position_embeddings: 32768,
  rms_norm_eps: 1e-6,
  rope_theta: 10000,
  rope_scaling: null,
  tie_word_embeddings: false,
  norm_topk_prob: false,
  decoder_sparse_step: 1,
  attention_bias: false,
  use_sliding_window: false,
  sliding_window: 4096,
  num_experts_per_tok: 8,
}
const DEFAULTS: Readonly<Record<OtherFamily, Config>> = {
  qwen3_moe: QWEN3,
  qwen3_moe_plus_plus: { ...QWEN3, use_zce_mask: true },
  mixtral: {
    num_key_value_heads: 8,
    rms_norm_eps: 1e-5,
    rope_theta: 1e6,
    rope_scaling: null,
    tie_word_embeddings: false,
    num_local_experts: 8,
    num_experts_per_tok: 2,
    sliding_window: null,
  },
}

// Weights

function listTensors(random: Random, c: FamilyConfig, add: AddTensor): void {
  const H = c.hidden
  const router = random.pick([0.7, 1.5, 3])
  add('model.embed_tokens.weight', [c.vocab, H], random.pick([0.5, 1]))
  for (let layer = 0; layer < c.layers; layer++) {
    const prefix = `model.layers.${layer}`
    add(`${prefix}.input_layernorm.weight`, [H], 0.2, 1)
    add(`${prefix}.post_attention_layernorm.weight`, [H], 0.2, 1)
    listAttention(c, `${prefix}.self_attn`, add)
    const block = `${prefix}.${c.names.block}`
    if (c.dense[layer]) {
      listFfn(c, block, c.denseIntermediate, add)
      continue
    }
    listExperts(c, block, router, add)
  }
  listHead(random, c, add)
}

/** The final norm, and the head. */
export function listHead(random: Random, c: FamilyConfig, add: AddTensor): void {
  add('model.norm.weight', [c.hidden], 0.2, 1)
  // If the embedding is the head, a stored head is ignored.
  if (!c.tied || random.chance(0.3))
    add('lm_head.weight', [c.vocab, c.hidden], 2 / Math.sqrt(c.hidden))
}

/** `router`: deviation of its logits. */
export function listExperts(c: FamilyConfig, block: string, router: number, add: AddTensor): void {
  const { hidden: H, ffnExperts } = c
  const fan = 1 / Math.sqrt(H)
  add(`${block}.${c.names.router}.weight`, [ffnExperts + c.zero.length, H], router * fan)
  for (let e = 0; e < ffnExperts; e++) listFfn(c, `${block}.experts.${e}`, c.intermediate, add)
  for (const [i, kind] of c.zero.entries()) {
    if (kind !== 'constant') continue
    add(`${block}.experts.${ffnExperts + i}.wg.weight`, [2, H], fan)
    add(`${block}.experts.${ffnExperts + i}.constant`, [H], 0.8)
  }
}

function listAttention(c: FamilyConfig, own: string, add: AddTensor): void {
  const { hidden: H, headDim } = c
  const rows = { q: c.heads * headDim, k: c.kvHeads * headDim, v: c.kvHeads * headDim }
  for (const [name, count] of Object.entries(rows))
    add(`${own}.${name}_proj.weight`, [count, H], 1.2 / Math.sqrt(H))
  add(`${own}.o_proj.weight`, [H, rows.q], 0.8 / Math.sqrt(rows.q))
  if (c.headNorms) {
    add(`${own}.q_norm.weight`, [headDim], 0.2, 1)
    add(`${own}.k_norm.weight`, [headDim], 0.2, 1)
  }
  if (!c.biases) return
  for (const [name, count] of Object.entries({ ...rows, o: H }))
    add(`${own}.${name}_proj.bias`, [count], 0.3)
}

export function listFfn(c: FamilyConfig, prefix: string, size: number, add: AddTensor): void {
  const [gate, up, down] = c.names.matrices
  const fan = 1 / Math.sqrt(c.hidden)
  add(`${prefix}.${gate}.weight`, [size, c.hidden], 1.3 * fan)
  add(`${prefix}.${up}.weight`, [size, c.hidden], 1.3 * fan)
  add(`${prefix}.${down}.weight`, [c.hidden, size], 1 / Math.sqrt(size))
}
