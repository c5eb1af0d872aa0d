/** Random small models with latent attention against the f64 reference. */
import { LATENT_FAMILIES, type LatentFamily } from '../support/golden.js'
import { randomLatent } from './random-latent.js'
import {
  type Checkpoints,
  type Corner,
  cornersOfLength,
  testClarity,
  testCorners,
  testQuantised,
  testRandomModels,
} from './random-tests.js'

const SMALL = { vocab_size: 61, hidden_size: 40, num_attention_heads: 2, kv_lora_rank: 17 }

const CORNERS: readonly Corner[] = [
  {
    name: 'least sizes',
    config: {
      ...{ vocab_size: 2, hidden_size: 2, num_attention_heads: 1, kv_lora_rank: 1 },
      ...{ q_lora_rank: 1, qk_nope_head_dim: 1, qk_rope_head_dim: 2, v_head_dim: 1 },
    },
    lengths: [1, 33],
    steps: 3,
  },
  {
    name: 'matrices of several tiles',
    config: {
      ...{ ...SMALL, vocab_size: 515, hidden_size: 220, kv_lora_rank: 260, q_lora_rank: 140 },
      ...{ qk_nope_head_dim: 150, qk_rope_head_dim: 36, v_head_dim: 135 },
    },
    lengths: [70, 19],
    steps: 3,
  },
  ...cornersOfLength(SMALL),
]

/** Of a thousand inputs that are rounded, one may be rounded either way: few of them. */
const few = (family: LatentFamily) =>
  family === 'longcat_flash'
    ? { num_layers: 1 }
    : { num_hidden_layers: 1, mlp_layer_types: ['sparse'] }
const narrow = (family: LatentFamily, seed: number) => ({
  ...few(family),
  ...{ hidden_size: 17 + 13 * (seed % 3), num_attention_heads: 1 + (seed % 2) },
})

/** Rows of several blocks of quantised weights: of networks, of latents, and of heads. */
const wide = (family: LatentFamily) => ({
  ...{ ...SMALL, ...few(family), hidden_size: 272, num_attention_heads: 1 },
  ...{ kv_lora_rank: 140, q_lora_rank: 130, qk_nope_head_dim: 136 },
  ...(family === 'longcat_flash'
    ? { ffn_hidden_size: 140, expert_ffn_hidden_size: 140 }
    : { intermediate_size: 140, moe_intermediate_size: 140 }),
})

for (const family of LATENT_FAMILIES) {
  const checkpoints: Checkpoints = (seed, config) => randomLatent(family, seed, config)
  testRandomModels(family, 4, checkpoints)
  testQuantised(family, 6, seed => checkpoints(seed, narrow(family, seed)))
  testQuantised(`${family}, wide`, 3, seed => checkpoints(seed, wide(family)))
  testCorners(family, CORNERS, checkpoints)
}
testClarity()
