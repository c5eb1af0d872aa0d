/**
 * One typed function per op of native/ops.h, by its name in camelCase; those of a mixture of
 * experts are in moe-ops.ts. Contracts: native/ops/<op>.h.
 * Sizes that an op does not get as arguments follow from the shapes of its inputs.
 */
import type { Dimension } from '../addon/binding.js'
import type { Buffer, ProgramBuilder, Weight } from './builder.js'

/** native/ops/common.h, Activation. */
export const ACTIVATION = { none: 0, tanh: 1, swiglu: 2 } as const

/** The label of an op's outputs: `layers.3.attention` names the op, and its outputs below it. */
export type Label = string

export const size = (tensor: Weight, axis: number): number => tensor.shape[axis]!
export const dimension = (tensor: Buffer, axis: number): Dimension => tensor.shape[axis]!

/** The tensors that every op over pages reads. */
export interface StepBuffers {
  readonly positions: Buffer
  readonly sequenceStarts: Buffer
  readonly pageTable: Buffer
}

/** Rows of the table; with `delta`, scale * (row + delta). */
export function embedding(
  p: ProgramBuilder,
  name: string,
  args: { tokens: Buffer; table: Weight; delta?: Buffer; scale?: number },
): Buffer {
  const { scale = 1, ...inputs } = args
  const shape = [dimension(args.tokens, 0), size(args.table, 1)]
  return p.op('embedding', name, inputs, { out: { name, shape } }, { scale }).out
}

/** RMSNorm of x, or of x + delta, which is then `sum`. */
export function rmsNorm(
  p: ProgramBuilder,
  label: Label,
  args: { x: Buffer; weight: Weight; eps: number },
): Buffer {
  const { eps, ...inputs } = args
  return p.op(
    'rms_norm',
    label,
    inputs,
    { out: { name: `${label}.out`, shape: args.x.shape } },
    { eps },
  ).out
}

/** sum = x + delta; out = RMSNorm(sum). */
export function addRmsNorm(
  p: ProgramBuilder,
  label: Label,
  args: { x: Buffer; delta: Buffer; weight: Weight; eps: number },
  names = { sum: `${label}.sum`, out: `${label}.out` },
): { sum: Buffer; out: Buffer } {
  const { eps, ...inputs } = args
  const outputs = {
    sum: { name: names.sum, shape: args.x.shape },
    out: { name: names.out, shape: args.x.shape },
  }
  return p.op('rms_norm', label, inputs, outputs, { eps })
}

/** With `swiglu` the weight has gate rows, then as many up rows, and there is no bias. */
export function linear(
  p: ProgramBuilder,
  label: Label,
  args: {
    x: Buffer
    weight: Weight
    bias?: Weight | undefined
    activation?: keyof typeof ACTIVATION
  },
  name = `${label}.out`,
): Buffer {
  const { x, weight, bias, activation = 'none' } = args
  const columns = activation === 'swiglu' ? size(weight, 0) / 2 : size(weight, 0)
  const out = { name, shape: [dimension(x, 0), columns] }
  const attributes = { activation: ACTIVATION[activation] }
  return p.op('linear', label, { x, weight, bias }, { out }, attributes).out
}

export interface Rotary {
  readonly cosine: Buffer
  readonly sine: Buffer
}

export function ropeTable(
  p: ProgramBuilder,
  label: Label,
  args: {
    positions: Buffer
    sequenceStarts: Buffer
    frequencies: Buffer
    positionDivisor: number
    /** Multiplies cosine and sine; 1 unless given. */
    magnitude?: number
  },
): Rotary {
  const shape = [dimension(args.positions, 0), dimension(args.frequencies, 1)]
  return p.op(
    'rope_table',
    label,
    {
      positions: args.positions,
      sequence_starts: args.sequenceStarts,
      frequencies: args.frequencies,
    },
    { cosine: { name: `${label}.cosine`, shape }, sine: { name: `${label}.sine`, shape } },
    { position_divisor: args.positionDivisor, magnitude: args.magnitude ?? 1 },
  )
}

/** Norms of queries and keys, one weight [D] for all heads of either. */
export interface HeadNorms {
  readonly q: Weight
  readonly k: Weight
  readonly eps: number
}

/** Norms and rotates q and k, stores k and v in the cache; returns q, [T, Hq, D]. */
export function ropeStore(
  p: ProgramBuilder,
  label: Label,
  args: {
    qkv: Buffer
    rotary: Rotary
    step: StepBuffers
    layer: number
    heads: number
    headDim: number
    norms?: HeadNorms | undefined
    /** Pairs are neighbours, not halves. */
    interleaved?: boolean
  },
): Buffer {
  const { qkv, rotary, step, layer, norms, interleaved = false } = args
  return p.op(
    'rope_store',
    label,
    {
      qkv,
      ...rotary,
      positions: step.positions,
      sequence_starts: step.sequenceStarts,
      page_table: step.pageTable,
      q_norm: norms?.q,
      k_norm: norms?.k,
    },
    { q: { name: `${label}.q`, shape: [dimension(qkv, 0), args.heads, args.headDim] } },
    { layer, eps: norms?.eps ?? 0, interleaved: Number(interleaved) },
  ).q
}

/** Each head of x times its matrix of the weight [Hq, O, I]: [T, Hq * O]. */
export function headLinear(
  p: ProgramBuilder,
  label: Label,
  args: { x: Buffer; weight: Weight },
): Buffer {
  const shape = [dimension(args.x, 0), size(args.weight, 0) * size(args.weight, 1)]
  return p.op('head_linear', label, args, { out: { name: `${label}.out`, shape } }).out
}

const even = (size: Dimension | undefined): number => 2 * Math.ceil(Number(size) / 2)

/**
 * Norms latents, rotates their keys and the queries, and stores latents and keys in the cache.
 * Returns the queries that meet them: [T, Hq, C + 2J], with one element more where that is odd.
 */
export function latentStore(
  p: ProgramBuilder,
  label: Label,
  args: {
    /** [T, Hq * D], whose heads end with what is rotated. */
    q: Buffer
    /** [T, Hq * C] */
    qLatent: Buffer
    /** [T, C + 2J] */
    latent: Buffer
    norm: Weight
    rotary: Rotary
    step: StepBuffers
    layer: number
    heads: number
    eps: number
    /** Factor of the normalised latent. */
    scale: number
    interleaved: boolean
  },
): Buffer {
  const { q, qLatent, latent, norm, rotary, step, layer, eps, scale, interleaved } = args
  return p.op(
    'latent_store',
    label,
    {
      ...{ q, q_latent: qLatent, latent, norm, ...rotary },
      positions: step.positions,
      sequence_starts: step.sequenceStarts,
      page_table: step.pageTable,
    },
    {
      out: { name: `${label}.q`, shape: [dimension(q, 0), args.heads, even(latent.shape[1])] },
    },
    { layer, eps, scale, interleaved: Number(interleaved) },
  ).out
}

/** [T, Hq * valueDim]; with a window over the last `window` positions alone. */
export function attention(
  p: ProgramBuilder,
  label: Label,
  args: {
    q: Buffer
    step: StepBuffers
    layer: number
    scale: number
    window?: number | undefined
    /** The head dim of q unless given. */
    valueDim?: number
  },
): Buffer {
  const { q, step, layer, scale, window = 0 } = args
  const valueDim = args.valueDim ?? Number(dimension(q, 2))
  return p.op(
    'attention',
    label,
    {
      q,
      positions: step.positions,
      sequence_starts: step.sequenceStarts,
      page_table: step.pageTable,
    },
    {
      out: {
        name: `${label}.out`,
        shape: [dimension(q, 0), Number(dimension(q, 1)) * valueDim],
      },
    },
    { layer, scale, window },
  ).out
}

export function gatherRows(
  p: ProgramBuilder,
  label: Label,
  args: { x: Buffer; rows: Buffer },
): Buffer {
  const shape = [dimension(args.rows, 0), dimension(args.x, 1)]
  return p.op('gather_rows', label, args, { out: { name: `${label}.out`, shape } }).out
}

/**
 * The `count` largest logits of each row, where they are, and the sum of the row's exponentials:
 * each costs only when captured.
 */
export function topLogits(
  p: ProgramBuilder,
  label: Label,
  args: { logits: Buffer; count: number },
): { values: Buffer; indices: Buffer; expSum: Buffer } {
  const rows = dimension(args.logits, 0)
  const written = p.op(
    'top_logits',
    label,
    { logits: args.logits },
    {
      top_logits: { name: `${label}.values`, shape: [rows, args.count] },
      top_indices: { name: `${label}.indices`, shape: [rows, args.count], dtype: 'i32' },
      exp_sum: { name: `${label}.exp_sum`, shape: [rows] },
    },
  )
  return { values: written.top_logits, indices: written.top_indices, expSum: written.exp_sum }
}
