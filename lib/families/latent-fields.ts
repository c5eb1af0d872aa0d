/** Fields of config.json of multi-head latent attention, which several families read alike. */
import type { Fields } from '../base/fields.js'
import type { LatentAttentionShape } from '../layers/latent-attention.js'
import type { RopeScaling } from '../layers/rope.js'

/** The kernels' limits: heads, and a latent with its rotated key. */
const MAX_LATENT_HEADS = 256
const MAX_LATENT_DIM = 1024

/** The sizes of heads and latents. */
export type LatentSizes = Pick<
  LatentAttentionShape,
  'queryRank' | 'latentRank' | 'plainDim' | 'rotatedDim' | 'valueDim'
>

/** Every head has keys and values of its own, made of the one latent. */
export function latentHeads(fields: Fields, absent: number): number {
  const heads = fields.size('num_attention_heads', absent)
  if (heads > MAX_LATENT_HEADS)
    throw fields.bad(`num_attention_heads is ${heads}, expected at most ${MAX_LATENT_HEADS}`)
  return heads
}

/** `defaults` stand for keys that are left out; a queryRank of null is the file's. */
export function latentSizes(fields: Fields, defaults: LatentSizes & { queryRank: number }) {
  const isGiven = fields.take('q_lora_rank') !== undefined
  const sizes: LatentSizes = {
    queryRank: isGiven ? fields.integerOrNull('q_lora_rank', { from: 1 }) : defaults.queryRank,
    latentRank: fields.size('kv_lora_rank', defaults.latentRank),
    plainDim: fields.size('qk_nope_head_dim', defaults.plainDim),
    rotatedDim: fields.size('qk_rope_head_dim', defaults.rotatedDim),
    valueDim: fields.size('v_head_dim', defaults.valueDim),
  }
  if (sizes.rotatedDim % 2 !== 0)
    throw fields.bad(`qk_rope_head_dim is ${sizes.rotatedDim}, expected an even number`)
  const width = sizes.latentRank + sizes.rotatedDim
  if (width > MAX_LATENT_DIM) {
    throw fields.bad(
      `kv_lora_rank and qk_rope_head_dim add up to ${width}, expected at most ${MAX_LATENT_DIM}`,
    )
  }
  return sizes
}

/** Factor of the scores: 1 / sqrt of the queries' size, and yarn's factor squared. */
export function latentScale(sizes: LatentSizes, scaling: RopeScaling | null): number {
  const { factor, yarn } = scaling ?? {}
  const magnitude = yarn && factor! > 1 ? 0.1 * (yarn.mscaleAllDim ?? 0) * Math.log(factor!) + 1 : 1
  return magnitude ** 2 / Math.sqrt(sizes.plainDim + sizes.rotatedDim)
}
