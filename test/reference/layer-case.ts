/** One isolated layer of the golden data: its description, configuration and stored tensors. */

import { type ModelConfig, parseConfig } from '../../lib/config.js'
import type { TensorRef } from '../../lib/tensor/tensor-ref.js'
import type { readGolden, Tolerance, Values } from '../support/golden.js'

export interface LayerCase {
  readonly name: string
  readonly kind: string
  readonly params: Readonly<Record<string, unknown>>
  readonly compare: readonly string[]
  readonly tolerance: Tolerance
}

export type Golden = Awaited<ReturnType<typeof readGolden>>
export type Results = Record<string, ArrayLike<number>>
export type LayerRun = (layer: LayerCase, data: Golden, isa: string) => Promise<Results>

/** A model's configuration with the layer's parameters in it. */
export function configOf(params: Readonly<Record<string, unknown>>): ModelConfig {
  const known = Object.entries(params).filter(([key]) => !NOT_CONFIG.has(key))
  const { num_experts: experts, ...rest } = Object.fromEntries(known)
  const config = parseConfig(
    {
      num_attention_heads: 2,
      intermediate_size: 16,
      ...rest,
      hidden_size: 32,
      num_experts: [experts ?? 8],
    },
    'layer',
  )
  // After the check: an isolated MoE layer has sizes that no heads divide.
  return {
    ...config,
    hiddenSize: Number(params.hidden_size ?? 32),
    headDim: Number(params.head_dim ?? config.headDim),
  }
}
const NOT_CONFIG = new Set([
  'has_gate_residual',
  'store_dtype',
  'compute_dtype',
  'tokens_per_expert',
  'head_dim',
  'calls',
])

/** The layer's stored tensors under the names that a checkpoint has. */
export function named(data: Golden, prefix: string): ReadonlyMap<string, TensorRef> {
  return new Map([...data.tensors].map(([name, tensor]) => [prefix + name, tensor]))
}

/** Large matrices as they are stored, so that a bf16 layer runs on bf16 panels. */
export function storedDType(data: Golden, name: string): 'f32' | 'bf16' {
  const isBf16 = data.tensors.get(name)?.dtype === 'bf16'
  // A GPU rounds activations to bf16 where the weights are; the golden data is f32 compute.
  return isBf16 && process.env.MOEPP_TEST_DEVICE === undefined ? 'bf16' : 'f32'
}

export const floats = (values: Values) => values.data as Float32Array
