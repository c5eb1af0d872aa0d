/** Self-attention over grouped heads, with the output projection. */
import type { Buffer } from '../program/builder.js'
import type { ModelBuilder, Part } from '../program/model-builder.js'
import { attention, linear, ropeStore } from '../program/ops.js'
import type { StepInputs } from './decoder.js'

export interface AttentionShape {
  readonly hiddenSize: number
  readonly heads: number
  /** Key and value heads. */
  readonly kvHeads: number
  readonly headDim: number
  /** All four projections have biases. Default false. */
  readonly bias?: boolean
  /** Queries and keys are normalised per head, with this epsilon, before they are rotated. */
  readonly qkNormEps?: number
  /** Keys that a query sees, its own the last; null for all. */
  readonly window?: number | null
}

/** Attention of a layer on y = RMSNorm(x): [T, H]. Tensors are under model.layers.N.self_attn. */
export function selfAttention(
  m: ModelBuilder,
  layer: number,
  y: Buffer,
  { step, rotary }: StepInputs,
  shape: AttentionShape,
): Buffer {
  const scope = `layers.${layer}.attention`
  const stored = `model.layers.${layer}.self_attn`
  const { hiddenSize: H, heads, kvHeads, headDim, bias = false, qkNormEps } = shape
  const columns = heads * headDim
  const rows = { q_proj: columns, k_proj: kvHeads * headDim, v_proj: kvHeads * headDim }
  const parts = (suffix: string, width: number[]): Part[] =>
    Object.entries(rows).map(([name, size]) => ({
      name: `${stored}.${name}.${suffix}`,
      shape: [size, ...width],
    }))
  const all = columns + 2 * kvHeads * headDim
  const qkv = linear(m, `${scope}.qkv`, {
    x: y,
    weight: m.matrix('attention', `${stored}.qkv_proj`, [all, H], parts('weight', [H])),
    bias: bias
      ? m.small('attention', `${stored}.qkv_proj.bias`, [all], parts('bias', []))
      : undefined,
  })
  const norm = (name: string) => m.small('norms', `${stored}.${name}.weight`, [headDim])
  const cacheLayer = m.cacheLayer({ kvHeads, keyDim: headDim, valueDim: headDim })
  const q = ropeStore(m, `${scope}.rope_store`, {
    qkv,
    rotary,
    step,
    layer: cacheLayer,
    heads,
    headDim,
    norms:
      qkNormEps === undefined
        ? undefined
        : { q: norm('q_norm'), k: norm('k_norm'), eps: qkNormEps },
  })
  const attended = attention(m, scope, {
    q,
    step,
    layer: cacheLayer,
    scale: 1 / Math.sqrt(headDim),
    window: shape.window ?? 0,
  })
  return linear(m, `${scope}.o`, {
    x: attended,
    weight: m.matrix('attention', `${stored}.o_proj.weight`, [H, columns]),
    bias: bias ? m.small('attention', `${stored}.o_proj.bias`, [H]) : undefined,
  })
}
