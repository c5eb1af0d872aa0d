/**
 * A recorded model is the only description of it. Here is all that follows: parameters, memory of
 * the weights, work of a step, the experts of each layer.
 */
import type { OpSpec, ProgramSpec, WeightSpec } from '../addon/binding.js'
import type { LookupSpec } from '../addon/lookup-spec.js'
import { elementCount } from '../tensor/tensor-file.js'
import {
  DTYPE_SIZE,
  isQuantised,
  type StoredRef,
  type TensorRef,
  weightSize,
} from '../tensor/tensor-ref.js'
import { EXPERT_KINDS } from './expert-kinds.js'
import { type ExpertRuns, expertCount, kindsOf } from './moe-ops.js'
import { ACTIVATION } from './ops.js'

export const PARAMETER_KINDS = [
  'embedding',
  'ngrams',
  'attention',
  'router',
  'ffnExperts',
  'constantExperts',
  'denseFfn',
  'norms',
  'head',
] as const

export type ParameterKind = (typeof PARAMETER_KINDS)[number]

export type ParameterCounts = Readonly<Record<ParameterKind, number>>

export interface RecordedWeight extends WeightSpec {
  readonly kind: ParameterKind
}

/** Keys and values of a token. */
export interface CacheShape {
  readonly layers: number
  readonly kvHeads: number
  /** Elements of one head's key, and of its value; 0: values are the first part of keys. */
  readonly keyDim: number
  readonly valueDim: number
}

export interface RecordedLookup extends LookupSpec {
  readonly table: RecordedWeight
}

export interface ModelSpec extends ProgramSpec {
  /** On the device. */
  readonly weights: readonly RecordedWeight[]
  /** Rows of tables that stay in the checkpoint's files. */
  readonly lookups: readonly RecordedLookup[]
  /** Stored tensors of the model that nothing reads. */
  readonly unread: readonly {
    readonly name: string
    readonly kind: ParameterKind
    readonly ref: TensorRef
  }[]
  /** Names that `forward` can return. */
  readonly captures: readonly string[]
  readonly cache: CacheShape
}

/** A layer with experts. */
export interface Router {
  /** Of the model's layers. */
  readonly layer: number
  /** K: experts that each token picks. */
  readonly topK: number
  /** By index: kinds and how many, in order. */
  readonly experts: ExpertRuns
  /** Buffers with the picks [T, K] i32, and their weights [T, K] f32. */
  readonly indices: string
  readonly weights: string
  /** The buffer with the logits [T, E] f32. */
  readonly logits: string
  /** The buffer with the scores [T, 2C] of the layer's C constant experts, if it has any. */
  readonly constantScores?: string
  /** Factor of the experts' input, and of the scores before their softmax. */
  readonly inputScale: number
  /** Standard deviation that each token's logits are scaled to; 0: they are not. */
  readonly normStd: number
  /** True: zero-computation experts are left out. */
  readonly masked: boolean
}

/** The layers with experts, in order. */
export function routersOf({ ops, buffers }: ProgramSpec): Router[] {
  const shapes = new Map(buffers.map(({ name, shape }) => [name, shape]))
  return ops
    .filter(({ op }) => op === 'route_top_k')
    .map(({ tensors, attributes }) => {
      const indices = tensors.expert_indices!
      return {
        layer: Number(/\d+/.exec(indices)![0]),
        topK: Number(shapes.get(indices)![1]),
        experts: runsOf(attributes.experts as readonly number[]),
        indices,
        weights: tensors.expert_weights!,
        logits: tensors.logits!,
        ...(tensors.constant_scores !== undefined && { constantScores: tensors.constant_scores }),
        inputScale: attributes.input_scale as number,
        normStd: attributes.norm_std as number,
        masked: attributes.masked === 1,
      }
    })
}

function runsOf(numbers: readonly number[]): ExpertRuns {
  return Array.from({ length: numbers.length / 2 }, (_, i) => ({
    kind: EXPERT_KINDS[numbers[2 * i]!]!,
    count: numbers[2 * i + 1]!,
  }))
}

/** True at each index of an expert with a feed-forward network. */
export function ffnMask(runs: ExpertRuns): boolean[] {
  return kindsOf(runs).map(kind => kind === 'ffn')
}

// ---- parameters

/** All weights, those that stay in files among them, in the order of the forward pass. */
export function allWeights({ weights, lookups }: Pick<ModelSpec, 'weights' | 'lookups'>) {
  return [...lookups.map(({ table }) => table), ...weights]
}

/** The stored tensors and packed weights of the model, in the order of the forward pass. */
export function parametersOf(
  spec: ModelSpec,
): Map<string, { kind: ParameterKind; ref: StoredRef }> {
  const found = new Map<string, { kind: ParameterKind; ref: StoredRef }>()
  for (const { kind, parts } of allWeights(spec))
    for (const { name, rows: _, ...ref } of parts) found.set(name, { kind, ref })
  for (const { name, kind, ref } of spec.unread) found.set(name, { kind, ref })
  return found
}

/** Names of all stored tensors that the model reads, scales included. */
export function storedNames(spec: ModelSpec): Set<string> {
  return new Set(
    [...parametersOf(spec)].flatMap(([name, { ref }]) =>
      'scale' in ref && ref.scale ? [name, ref.scale.name] : [name],
    ),
  )
}

export function countParameters(spec: ModelSpec): ParameterCounts {
  const counts = Object.fromEntries(PARAMETER_KINDS.map(kind => [kind, 0])) as Record<
    ParameterKind,
    number
  >
  for (const { kind, ref } of parametersOf(spec).values()) counts[kind] += elementCount(ref.shape)!
  return counts
}

export function totalParameters(counts: ParameterCounts): number {
  return PARAMETER_KINDS.reduce((sum, kind) => sum + counts[kind], 0)
}

/** The share of FFN experts that a token picks in a layer: from none to all of its picks. */
export type FfnPicks = (router: Router) => number

/** If the router picked all experts equally often. Text and training decide the real figure. */
export const evenFfnPicks: FfnPicks = ({ topK, experts }) =>
  (topK * expertCount(experts, 'ffn')) / expertCount(experts)

export const mostFfnPicks: FfnPicks = ({ topK, experts }) =>
  Math.min(topK, expertCount(experts, 'ffn'))

/** Mean over the layers with experts. */
export function meanFfnPicks(spec: ProgramSpec, picks: FfnPicks): number {
  const routers = routersOf(spec)
  return routers.reduce((sum, router) => sum + picks(router), 0) / Math.max(1, routers.length)
}

/**
 * Parameters that one token reads. Of the embedding one row counts, and the whole where the head
 * shares it. Of each n-gram table one row counts. FFN experts that were not chosen do not count.
 * Constant experts count whole: their scores are computed for every token.
 */
export function activeParameters(spec: ModelSpec, picks: FfnPicks): number {
  const mean = meanFfnPicks(spec, picks)
  const width = new Map(spec.buffers.map(({ name, shape }) => [name, Number(shape.at(-1))]))
  const lookedUp = spec.lookups.reduce((sum, { out }) => sum + width.get(out)!, 0)
  return spec.weights.reduce((sum, { kind, name, shape }) => {
    const count = elementCount(shape)!
    if (kind === 'ffnExperts') return sum + (shape[0] ? (count / shape[0]) * mean : 0)
    if (kind !== 'embedding') return sum + count
    return sum + shape[1]! + (isHead(spec, name) ? count : 0)
  }, lookedUp)
}

// ---- bytes

/** Bytes of the weights on a device, without padding. */
export function weightBytes({ weights }: ProgramSpec): number {
  return weights.reduce((bytes, weight) => bytes + weightSize(weight), 0)
}

/** Bytes of the tables that stay in the checkpoint's files. */
export function tableBytes({ lookups }: Pick<ModelSpec, 'lookups'>): number {
  const parts = lookups.flatMap(({ table }) => table.parts)
  return parts.reduce((bytes, { byteLength }) => bytes + byteLength, 0)
}

/** Bytes of the keys and values of a number of tokens. */
export function cacheBytes(
  { layers, kvHeads, keyDim, valueDim }: CacheShape,
  tokens: number,
  dtype: 'f32' | 'bf16',
): number {
  return layers * kvHeads * (keyDim + valueDim) * tokens * DTYPE_SIZE[dtype]
}

export function holdsQuantised({ weights }: ProgramSpec): boolean {
  return weights.some(({ dtype }) => isQuantised(dtype))
}

/** Names of the weights whose rows are gate and up: SwiGLU makes one of both. */
export function gateUpWeights({ ops }: ProgramSpec): Set<string> {
  return new Set(
    ops.filter(op => op.attributes.activation === ACTIVATION.swiglu).map(op => op.tensors.weight!),
  )
}

// ---- work of a step

/** The routing of a step's tokens. */
export interface StepRouting {
  /** Picks of FFN experts, all layers together. */
  readonly picks: number
  /** Different FFN experts that have a token, all layers together. */
  readonly touched: number
}

/**
 * Bytes that a step must read from memory: each weight that its tokens need, once, and the cached
 * keys and values of `cachedTokens` positions. The embedding is not streamed: a token reads one
 * row.
 */
export function bytesOfStep(
  spec: ModelSpec,
  { touched }: Pick<StepRouting, 'touched'>,
  cachedTokens: number,
  cacheDtype: 'f32' | 'bf16',
): number {
  const layers = Math.max(1, routersOf(spec).length)
  const weights = spec.weights.reduce((bytes, weight) => {
    const { kind, name, shape } = weight
    const size = weightSize(weight)
    if (kind === 'ffnExperts')
      return bytes + (shape[0] ? ((size / shape[0]) * touched) / layers : 0)
    return kind === 'embedding' && !isHead(spec, name) ? bytes : bytes + size
  }, 0)
  return weights + cacheBytes(spec.cache, cachedTokens, cacheDtype)
}

/**
 * Operations of a prefill's matrix products, a multiply-add counting as two: T tokens through
 * attention's, the dense and the experts' matrices, `logitRows` through the head. Attention's
 * scores and sums, and the router, are left out.
 */
export function operationsOfPrefill(
  spec: ModelSpec,
  tokens: number,
  { picks }: Pick<StepRouting, 'picks'>,
  logitRows: number,
): number {
  const weights = new Map(spec.weights.map(weight => [weight.name, weight]))
  const layers = Math.max(1, routersOf(spec).length)
  const rowsOf = ({ op, tensors }: OpSpec) => {
    if (op === 'grouped_gemm') return picks / layers / (weights.get(tensors.weight!)!.shape[0] || 1)
    if (op !== 'linear' && op !== 'head_linear') return 0
    const { kind } = weights.get(tensors.weight!)!
    if (kind === 'router') return 0
    return kind === 'head' || kind === 'embedding' ? logitRows : tokens
  }
  return spec.ops.reduce((sum, op) => {
    const rows = rowsOf(op)
    return rows === 0 ? sum : sum + 2 * rows * elementCount(weights.get(op.tensors.weight!)!.shape)!
  }, 0)
}

/** True if a matrix product reads the weight: the embedding that the head shares. */
function isHead({ ops }: ProgramSpec, name: string): boolean {
  return ops.some(({ op, tensors }) => op === 'linear' && tensors.weight === name)
}
