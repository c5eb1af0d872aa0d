/**
 * Multi-head latent attention, with the output projection: docs/models/README.md, "Latent
 * attention". The up-projections of keys and values are absorbed: queries meet the latents
 * themselves, so that the cache has no keys and values of heads.
 */
import type { Buffer, Weight } from '../program/builder.js'
import type { ModelBuilder } from '../program/model-builder.js'
import { attention, headLinear, latentStore, linear, rmsNorm } from '../program/ops.js'
import type { HeadRows } from '../tensor/tensor-ref.js'
import type { StepInputs } from './decoder.js'

/** Of the norms within, whatever a configuration says of the others. */
const INNER_EPS = 1e-6

export interface LatentAttentionShape {
  readonly hiddenSize: number
  readonly heads: number
  /** Elements of a compressed query; null: queries are not compressed. */
  readonly queryRank: number | null
  /** C: elements of a latent. */
  readonly latentRank: number
  /** Elements of a query that are not rotated, and those that are. */
  readonly plainDim: number
  readonly rotatedDim: number
  readonly valueDim: number
  /** Of the scores. */
  readonly scale: number
  /** Of the normalised latent. Default 1. */
  readonly latentScale?: number
  /** Pairs are neighbours, not halves. */
  readonly interleaved: boolean
  /** The projections from and to the hidden size have biases. */
  readonly bias: boolean
}

/**
 * Attention on y = RMSNorm(x): [T, H].
 *
 * @param scope of the buffers
 * @param stored name before those of the tensors: `model.layers.N.self_attn`
 */
export function latentAttention(
  m: ModelBuilder,
  scope: string,
  stored: string,
  y: Buffer,
  { step, rotary }: StepInputs,
  shape: LatentAttentionShape,
): Buffer {
  const { hiddenSize: H, heads, latentRank: C, plainDim, rotatedDim, valueDim } = shape
  const biased = (name: string, rows: number, columns: number) => ({
    weight: m.matrix('attention', `${stored}.${name}.weight`, [rows, columns]),
    bias: shape.bias ? m.small('attention', `${stored}.${name}.bias`, [rows]) : undefined,
  })
  const upProjection = (name: string, rows: Omit<HeadRows, 'heads'>): Weight => {
    const kept = rows.transposed ? [C, rows.count] : [rows.count, C]
    return m.matrix(
      'attention',
      `${stored}.kv_b_proj.${name}`,
      [heads, ...kept],
      [
        {
          name: `${stored}.kv_b_proj.weight`,
          shape: [heads * (plainDim + valueDim), C],
          rows: { heads, ...rows },
        },
      ],
    )
  }
  const q = queries(m, scope, stored, y, shape, biased)
  const qLatent = headLinear(m, `${scope}.absorb_keys`, {
    x: q,
    weight: upProjection('keys', { first: 0, count: plainDim, transposed: true }),
  })
  const latent = linear(m, `${scope}.kv_a`, {
    x: y,
    ...biased('kv_a_proj_with_mqa', C + rotatedDim, H),
  })
  // Latents and values come in pairs. Of the last value's pair the rotated key has the other half.
  const keyDim = C + rotatedDim + (C % 2)
  const layer = m.cacheLayer({ kvHeads: 1, keyDim, valueDim: 0 })
  const query = latentStore(m, `${scope}.latent_store`, {
    ...{ q, qLatent, latent, rotary, step, layer, heads, eps: INNER_EPS },
    norm: m.small('norms', `${stored}.kv_a_layernorm.weight`, [C]),
    scale: shape.latentScale ?? 1,
    interleaved: shape.interleaved,
  })
  const means = attention(m, scope, {
    ...{ q: query, step, layer, scale: shape.scale },
    valueDim: C + (C % 2),
  })
  const values = headLinear(m, `${scope}.values`, {
    x: means,
    weight: upProjection('values', { first: plainDim, count: valueDim }),
  })
  return linear(m, `${scope}.o`, { x: values, ...biased('o_proj', H, heads * valueDim) })
}

/** [T, heads * (plainDim + rotatedDim)] */
function queries(
  m: ModelBuilder,
  scope: string,
  stored: string,
  y: Buffer,
  { hiddenSize: H, heads, queryRank, plainDim, rotatedDim }: LatentAttentionShape,
  biased: (name: string, rows: number, columns: number) => { weight: Weight; bias?: Weight },
): Buffer {
  const rows = heads * (plainDim + rotatedDim)
  const matrix = (name: string, columns: number) =>
    m.matrix('attention', `${stored}.${name}.weight`, [rows, columns])
  if (queryRank === null) return linear(m, `${scope}.q`, { x: y, weight: matrix('q_proj', H) })
  const compressed = rmsNorm(m, `${scope}.q_norm`, {
    x: linear(m, `${scope}.q_a`, { x: y, ...biased('q_a_proj', queryRank, H) }),
    weight: m.small('norms', `${stored}.q_a_layernorm.weight`, [queryRank]),
    eps: INNER_EPS,
  })
  return linear(m, `${scope}.q`, { x: compressed, weight: matrix('q_b_proj', queryRank) })
}
