/** Counts a model's parameters by their use, those that a token reads, and their memory. */

import type { ModelConfig } from '../config.js'
import { recordMoepp } from '../model/moepp.js'
import type { MatrixDType } from '../model/weights.js'
import { elementCount } from '../tensor/tensor-file.js'
import { DTYPE_SIZE, type StoredRef, weightSize } from '../tensor/tensor-ref.js'
import type { Checkpoint } from './checkpoint.js'
import { modelTensors, weightOf } from './names.js'

export const PARAMETER_KINDS = [
  'embedding',
  'attention',
  'router',
  'ffnExperts',
  'constantExperts',
  'norms',
  'head',
] as const

export type ParameterKind = (typeof PARAMETER_KINDS)[number]

export type ParameterCounts = Readonly<Record<ParameterKind, number>>

/**
 * Stored by every MoE++ checkpoint and part of its size, but never read: layer 0 has no layer
 * before it whose logits the map could take.
 */
export const UNREAD_PARAMETER = 'model.layers.0.mlp.moe.gate.gate_map.weight'

/** The kind of a name that modelTensors or weightOf gives, or of UNREAD_PARAMETER. */
export function parameterKind(name: string): ParameterKind {
  if (name === 'model.embed_tokens.weight') return 'embedding'
  if (name === 'lm_head.weight') return 'head'
  if (name.includes('.self_attn.')) return 'attention'
  if (name.includes('.mlp.moe.gate.')) return 'router'
  if (/\.(up|down)_proj(\.weight)?$/.test(name)) return 'ffnExperts'
  return name.includes('.experts.') ? 'constantExperts' : 'norms'
}

/**
 * The checkpoint's tensors and packed weights that belong to the model, in the order of the forward
 * pass.
 */
export function modelParameters(
  config: ModelConfig,
  checkpoint: Checkpoint,
): Map<string, StoredRef> {
  const parameters = new Map<string, StoredRef>()
  const names = [...modelTensors(config)].map(({ name }) => name)
  for (const name of [...names, UNREAD_PARAMETER]) {
    const weight = weightOf(name)
    const packed = checkpoint.packed.get(weight)
    const tensor = checkpoint.tensors.get(name)
    if (packed) parameters.set(weight, packed)
    else if (tensor) parameters.set(name, tensor)
  }
  return parameters
}

export function countParameters(parameters: ReadonlyMap<string, StoredRef>): ParameterCounts {
  const counts = Object.fromEntries(PARAMETER_KINDS.map(kind => [kind, 0])) as Record<
    ParameterKind,
    number
  >
  for (const [name, { shape }] of parameters) counts[parameterKind(name)] += elementCount(shape)!
  return counts
}

export function totalParameters(counts: ParameterCounts): number {
  return PARAMETER_KINDS.reduce((sum, kind) => sum + counts[kind], 0)
}

/**
 * Parameters that one token reads if it chooses `ffnExpertsPerLayer` FFN experts in each layer, on
 * average. Of the embedding one row counts. FFN experts that were not chosen do not count. Constant
 * experts count whole: their scores are computed for every token.
 */
export function activeParameters(config: ModelConfig, ffnExpertsPerLayer: number): number {
  const { hiddenSize, vocabSize, layers, intermediateSize, tieWordEmbeddings } = config
  let active = hiddenSize + (tieWordEmbeddings ? vocabSize * hiddenSize : 0)
  for (const { name, shape } of modelTensors(config)) {
    const kind = parameterKind(name)
    if (kind !== 'embedding' && kind !== 'ffnExperts') active += elementCount(shape)!
  }
  return active + layers * ffnExpertsPerLayer * 3 * hiddenSize * intermediateSize
}

/**
 * FFN experts per token and layer if the router picked all experts equally often. Text and training
 * decide the real figure.
 */
export function evenFfnExperts({ topK, ffnExperts, experts }: ModelConfig): number {
  return (topK * ffnExperts) / experts
}

/**
 * Bytes of the weights on a device that holds the matrices as `dtype`; the small tensors are f32
 * everywhere.
 */
export function weightBytes(
  config: ModelConfig,
  tensors: ReadonlyMap<string, StoredRef>,
  dtype: MatrixDType,
): number {
  return recordMoepp(config, tensors, dtype).weights.reduce(
    (bytes, weight) => bytes + weightSize(weight),
    0,
  )
}

/** Bytes of the keys and values of a number of tokens. */
export function kvCacheBytes(config: ModelConfig, tokens: number, dtype: 'f32' | 'bf16'): number {
  return 2 * config.layers * config.kvHeads * config.headDim * tokens * DTYPE_SIZE[dtype]
}
