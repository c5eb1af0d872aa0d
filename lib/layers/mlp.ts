/** A dense feed-forward layer: W_down (silu(W_gate y) * W_up y). */
import type { Buffer, Weight } from '../program/builder.js'
import type { ModelBuilder } from '../program/model-builder.js'
import { addRmsNorm, linear } from '../program/ops.js'
import { type NextNorm, postAttentionNorm, type Stream } from './decoder.js'

export interface Mlp {
  /** [2F, H]: gate rows, then up rows. */
  readonly gateUp: Weight
  /** [H, F] */
  readonly down: Weight
}

/** The layer on y, [T, H]; `name` is the result's. */
export function feedForward(
  m: ModelBuilder,
  scope: string,
  y: Buffer,
  parts: Mlp,
  name = `${scope}.down.out`,
): Buffer {
  const hidden = linear(m, `${scope}.gate_up`, {
    x: y,
    weight: parts.gateUp,
    activation: 'swiglu',
  })
  return linear(m, `${scope}.down`, { x: hidden, weight: parts.down }, name)
}

/** x + delta (attention's output), its norm, the layer on that, its sum, and the norm `next`. */
export function mlp(
  m: ModelBuilder,
  layer: number,
  attended: { x: Buffer; delta: Buffer },
  parts: Mlp,
  next: NextNorm,
): Stream {
  const scope = `layers.${layer}`
  const input = postAttentionNorm(m, layer, attended, next.eps)
  const output = feedForward(m, `${scope}.mlp`, input.out, parts)
  const { sum, out } = addRmsNorm(
    m,
    `${scope}.next_norm`,
    { x: input.sum, delta: output, weight: next.weight, eps: next.eps },
    next,
  )
  return { x: sum, y: out }
}
