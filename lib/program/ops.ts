/**
 * One typed function per op of native/ops.inc, by its name in camelCase. Contracts: native/ops.h.
 * Sizes that an op does not get as arguments follow from the shapes of its inputs.
 */
import type { Dimension } from '../addon/binding.js'
import type { Buffer, ProgramBuilder, Weight } from './builder.js'

/** native/ops.h, Activation. */
const ACTIVATION = { none: 0, tanh: 1, swiglu: 2 } as const
/** The activation of an op whose weight has gate and up rows. */
export const SWIGLU = ACTIVATION.swiglu

/** The label of an op's outputs: `layers.3.attention` names the op, and its outputs below it. */
type Label = string

const size = (tensor: Weight, axis: number): number => tensor.shape[axis]!
const dimension = (tensor: Buffer, axis: number): Dimension => tensor.shape[axis]!

/** The tensors that every op over pages reads. */
export interface StepBuffers {
  readonly positions: Buffer
  readonly sequenceStarts: Buffer
  readonly pageTable: Buffer
}

export function embedding(
  p: ProgramBuilder,
  name: string,
  args: { tokens: Buffer; table: Weight },
): Buffer {
  return p.op('embedding', name, args, {
    out: { name, shape: [dimension(args.tokens, 0), size(args.table, 1)] },
  }).out
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
): { sum: Buffer; out: Buffer } {
  const { eps, ...inputs } = args
  const outputs = {
    sum: { name: `${label}.sum`, shape: args.x.shape },
    out: { name: `${label}.out`, shape: args.x.shape },
  }
  return p.op('rms_norm', label, inputs, outputs, { eps })
}

export function linear(
  p: ProgramBuilder,
  label: Label,
  args: { x: Buffer; weight: Weight; activation?: 'none' | 'tanh' },
  name = `${label}.out`,
): Buffer {
  const { x, weight, activation = 'none' } = args
  const out = { name, shape: [dimension(x, 0), size(weight, 0)] }
  const attributes = { activation: ACTIVATION[activation] }
  return p.op('linear', label, { x, weight }, { out }, attributes).out
}

export interface Rotary {
  readonly cosine: Buffer
  readonly sine: Buffer
}

export function ropeTable(
  p: ProgramBuilder,
  label: Label,
  args: { positions: Buffer; sequenceStarts: Buffer; frequencies: Buffer; positionDivisor: number },
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
    { position_divisor: args.positionDivisor },
  )
}

/** Rotates q and k, stores k and v in the cache; returns q, [T, Hq, D]. */
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
  },
): Buffer {
  const { qkv, rotary, step, layer } = args
  return p.op(
    'rope_store',
    label,
    {
      qkv,
      ...rotary,
      positions: step.positions,
      sequence_starts: step.sequenceStarts,
      page_table: step.pageTable,
    },
    { q: { name: `${label}.q`, shape: [dimension(qkv, 0), args.heads, args.headDim] } },
    { layer },
  ).q
}

/** [T, Hq * D]. */
export function attention(
  p: ProgramBuilder,
  label: Label,
  args: { q: Buffer; step: StepBuffers; layer: number; scale: number },
): Buffer {
  const { q, step, layer, scale } = args
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
        shape: [dimension(q, 0), Number(dimension(q, 1)) * Number(dimension(q, 2))],
      },
    },
    { layer, scale },
  ).out
}

/**
 * The accumulated router logits [T, E] under `name`, and the scores [T, 2C] of the constant
 * experts.
 */
export function routerLogits(
  p: ProgramBuilder,
  label: Label,
  args: {
    x: Buffer
    hidden: Buffer | undefined
    previousLogits: Buffer | undefined
    router: Weight
    residualMap: Weight | undefined
    constantRouter: Weight
  },
  name: string,
): { logits: Buffer; constantScores: Buffer } {
  const tokens = dimension(args.x, 0)
  const outputs = {
    logits: { name, shape: [tokens, size(args.router, 0)] },
    constant_scores: {
      name: `${label}.constant_scores`,
      shape: [tokens, size(args.constantRouter, 0)],
    },
  }
  const written = p.op(
    'router_logits',
    label,
    {
      x: args.x,
      hidden: args.hidden,
      previous_logits: args.previousLogits,
      router: args.router,
      residual_map: args.residualMap,
      constant_router: args.constantRouter,
    },
    outputs,
  )
  return { logits: written.logits, constantScores: written.constant_scores }
}

export interface Route {
  readonly expertIndices: Buffer
  readonly expertWeights: Buffer
  readonly coefficients: Buffer
  readonly expertOffsets: Buffer
  readonly tokenOrder: Buffer
  readonly expertRows: Buffer
}

/** Attributes of top-K gating: native/ops.h, RouteTopKArgs. */
export interface Gating {
  readonly topK: number
  readonly ffnExperts: number
  readonly normStd: number
  readonly inputScale: number
  readonly mixtral: boolean
}

/** The outputs of route_top_k for T tokens and C constant experts. */
function routeOutputs(scope: Label, tokens: Dimension, constants: number, gating: Gating) {
  const picks = [tokens, gating.topK]
  return {
    expert_indices: { name: `${scope}.expert_indices`, shape: picks, dtype: 'i32' },
    expert_weights: { name: `${scope}.expert_weights`, shape: picks },
    coefficients: { name: `${scope}.coefficients`, shape: [tokens, constants + 1] },
    expert_offsets: {
      name: `${scope}.expert_offsets`,
      shape: [gating.ffnExperts + 1],
      dtype: 'i32',
    },
    token_order: { name: `${scope}.token_order`, shape: picks, dtype: 'i32' },
    expert_rows: { name: `${scope}.expert_rows`, shape: picks, dtype: 'i32' },
  } as const
}

const gatingAttributes = (gating: Gating) => ({
  norm_std: gating.normStd,
  input_scale: gating.inputScale,
  mixtral: Number(gating.mixtral),
})

const routeOf = (written: Record<keyof ReturnType<typeof routeOutputs>, Buffer>): Route => ({
  expertIndices: written.expert_indices,
  expertWeights: written.expert_weights,
  coefficients: written.coefficients,
  expertOffsets: written.expert_offsets,
  tokenOrder: written.token_order,
  expertRows: written.expert_rows,
})

/** `scope`.expert_indices and `scope`.expert_weights are the picks, [T, K]. */
export function routeTopK(
  p: ProgramBuilder,
  scope: Label,
  args: { logits: Buffer; constantScores: Buffer } & Gating,
): Route {
  const constants = Number(dimension(args.constantScores, 1)) / 2
  const written = p.op(
    'route_top_k',
    `${scope}.route_top_k`,
    { logits: args.logits, constant_scores: args.constantScores },
    routeOutputs(scope, dimension(args.logits, 0), constants, args),
    gatingAttributes(args),
  )
  return routeOf(written)
}

/**
 * addRmsNorm, routerLogits of its `out` and routeTopK in one: a one-layer router. Outputs have the
 * names that those give them.
 */
export function normRouteTopK(
  p: ProgramBuilder,
  scope: Label,
  args: {
    x: Buffer
    delta: Buffer
    previousLogits: Buffer | undefined
    normWeight: Weight
    router: Weight
    residualMap: Weight | undefined
    constantRouter: Weight
    eps: number
    gating: Gating
  },
  names: { norm: Label; logits: string },
): { sum: Buffer; out: Buffer; logits: Buffer; route: Route } {
  const { x, delta, router, constantRouter, eps, gating } = args
  const tokens = dimension(x, 0)
  const scores = size(constantRouter, 0)
  const written = p.op(
    'norm_route_top_k',
    `${scope}.norm_route_top_k`,
    {
      x,
      delta,
      previous_logits: args.previousLogits,
      norm_weight: args.normWeight,
      router,
      residual_map: args.residualMap,
      constant_router: constantRouter,
    },
    {
      sum: { name: `${names.norm}.sum`, shape: x.shape },
      out: { name: `${names.norm}.out`, shape: x.shape },
      logits: { name: names.logits, shape: [tokens, size(router, 0)] },
      constant_scores: { name: `${scope}.router.constant_scores`, shape: [tokens, scores] },
      ...routeOutputs(scope, tokens, scores / 2, gating),
    },
    { eps, ...gatingAttributes(gating) },
  )
  return { sum: written.sum, out: written.out, logits: written.logits, route: routeOf(written) }
}

/**
 * silu(gate x) * (up x) of each token's FFN experts; weight [N, 2F, H] gives [T, K, F], rows sorted
 * by expert.
 */
export function groupedSwiglu(
  p: ProgramBuilder,
  label: Label,
  args: { x: Buffer; route: Route; weight: Weight; inputScale: number },
): Buffer {
  const { x, route, weight, inputScale } = args
  return p.op(
    'grouped_gemm',
    label,
    { x, expert_offsets: route.expertOffsets, token_order: route.tokenOrder, weight },
    { out: { name: `${label}.out`, shape: [...route.tokenOrder.shape, size(weight, 1) / 2] } },
    { input_scale: inputScale, activation: ACTIVATION.swiglu },
  ).out
}

/** weight [N, H, F] on rows that are sorted by expert already: [T, K, H]. */
export function groupedGemm(
  p: ProgramBuilder,
  label: Label,
  args: { x: Buffer; route: Route; weight: Weight },
): Buffer {
  const { x, route, weight } = args
  return p.op(
    'grouped_gemm',
    label,
    { x, expert_offsets: route.expertOffsets, weight },
    { out: { name: `${label}.out`, shape: [...route.tokenOrder.shape, size(weight, 1)] } },
    { input_scale: 1, activation: ACTIVATION.none },
  ).out
}

/**
 * The MoE layer's output (captured as `scope`.moe_output), its sum with the residual under
 * `sumName`, and that sum's RMSNorm.
 */
export function combine(
  p: ProgramBuilder,
  scope: Label,
  args: {
    residual: Buffer
    x: Buffer
    expertOut: Buffer
    route: Route
    constants: Weight
    normWeight: Weight
    eps: number
  },
  names: { sum: string; out: string },
): { sum: Buffer; out: Buffer } {
  const { residual, x, route } = args
  const written = p.op(
    'combine',
    `${scope}.combine`,
    {
      residual,
      x,
      expert_out: args.expertOut,
      coefficients: route.coefficients,
      expert_weights: route.expertWeights,
      expert_rows: route.expertRows,
      constants: args.constants,
      norm_weight: args.normWeight,
    },
    {
      moe_output: { name: `${scope}.moe_output`, shape: x.shape },
      sum: { name: names.sum, shape: x.shape },
      out: { name: names.out, shape: x.shape },
    },
    { eps: args.eps },
  )
  return { sum: written.sum, out: written.out }
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
