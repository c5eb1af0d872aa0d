/**
 * A step's work: bytes that it must read, operations that it must compute. Ceilings divided by
 * these are ideal rates.
 */

import type { ModelConfig } from '../config.js'
import { rowsBytes } from '../tensor/tensor-ref.js'

/** Bytes per weight of the matrices on the device. */
export interface WeightBytes {
  readonly experts: number
  /** Attention and output head. */
  readonly others: number
}

/** Of a block of 128 weights, its scales included. */
const INT8 = rowsBytes('int8', 1, 128) / 128
const INT4 = rowsBytes('int4', 1, 128) / 128

/** By the option `dtype`. Under int4, attention and head are int8. */
export const WEIGHT_BYTES: Readonly<Record<string, WeightBytes>> = {
  float32: { experts: 4, others: 4 },
  bfloat16: { experts: 2, others: 2 },
  int8: { experts: INT8, others: INT8 },
  int4: { experts: INT4, others: INT8 },
}

/** The routing of a step's tokens. */
export interface StepRouting {
  /** Picks of FFN experts, all layers together. */
  readonly picks: number
  /** Different FFN experts that have a token, all layers together. */
  readonly touched: number
}

/** Weights of one layer's attention. */
function attentionWeights({ hiddenSize, heads, kvHeads, headDim }: ModelConfig): number {
  return 2 * (heads + kvHeads) * headDim * hiddenSize
}

function expertWeights({ hiddenSize, intermediateSize }: ModelConfig): number {
  return 3 * hiddenSize * intermediateSize
}

/**
 * Bytes that a step must read from memory: each weight that its tokens need, once, and the cached
 * keys and values of
 * `cachedTokens` positions. The embedding is not streamed: a token reads one row.
 */
export function bytesOfStep(
  c: ModelConfig,
  weights: WeightBytes,
  { touched }: Pick<StepRouting, 'touched'>,
  cachedTokens: number,
  cacheBytes: number,
): number {
  const H = c.hiddenSize
  // Router, residual map, the constant experts' rows and vectors, two norms: f32 always.
  const small = 4 * (c.experts * H + c.experts ** 2 + 4 * H + 2 * H + 2 * H)
  const layers = c.layers * (attentionWeights(c) * weights.others + small)
  const experts = touched * expertWeights(c) * weights.experts
  const head = c.vocabSize * H * weights.others
  return layers + experts + head + cachedTokens * c.layers * 2 * c.kvHeads * c.headDim * cacheBytes
}

/**
 * Operations of a prefill's matrix products, a multiply-add counting as two: T tokens through
 * attention's and the experts' matrices, `logitRows` through the head. Attention's scores and sums
 * are left out.
 */
export function operationsOfPrefill(
  c: ModelConfig,
  tokens: number,
  { picks }: Pick<StepRouting, 'picks'>,
  logitRows: number,
): number {
  const attention = c.layers * tokens * attentionWeights(c)
  return 2 * (attention + picks * expertWeights(c) + logitRows * c.vocabSize * c.hiddenSize)
}
