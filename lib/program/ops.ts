/**
 * One typed function per op of native/ops.inc, by its name in camelCase. Contracts: native/ops.h.
 * Sizes that an op does not get as arguments follow from the shapes of its inputs.
 */
import type { Dimension } from '../binding.js'
import type { Buffer, Output, ProgramBuilder, Weight } from './builder.js'

/** native/ops.h, Activation. */
const ACTIVATION = { none: 0, tanh: 1, swiglu: 2 } as const
/** The activation of an op whose weight has gate and up rows. */
export const SWIGLU = ACTIVATION.swiglu

/** The label of an op's outputs: `layers.3.attention` names the op, and its outputs below it. */
type Label = string

const size = (tensor: Weight, axis: number): number => tensor.shape[axis]!
const mayRoundX = (weight: Weight) => ({ may_round_x: Number(weight.mayRoundX) })
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
  const attributes = { activation: ACTIVATION[activation], ...mayRoundX(weight) }
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
 * experts, if there are any.
 */
export function routerLogits(
  p: ProgramBuilder,
  label: Label,
  args: {
    x: Buffer
    hidden?: Buffer | undefined
    previousLogits?: Buffer | undefined
    router: Weight
    residualMap?: Weight | undefined
    constantRouter?: Weight | undefined
  },
  name: string,
): { logits: Buffer; constantScores: Buffer | undefined } {
  const { constantRouter } = args
  const tokens = dimension(args.x, 0)
  const outputs: Record<string, Output> = {
    logits: { name, shape: [tokens, size(args.router, 0)] },
  }
  if (constantRouter) {
    const shape = [tokens, size(constantRouter, 0)]
    outputs.constant_scores = { name: `${label}.constant_scores`, shape }
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
      constant_router: constantRouter,
    },
    outputs,
  )
  return { logits: written.logits!, constantScores: written.constant_scores }
}

export interface Route {
  readonly expertIndices: Buffer
  readonly expertWeights: Buffer
  readonly coefficients: Buffer
  readonly expertOffsets: Buffer
  readonly tokenOrder: Buffer
  readonly expertRows: Buffer
}

/** ExpertKind of native/expert_runs.h: the order of the names. */
const EXPERT_KINDS = ['ffn', 'constant', 'copy', 'zero'] as const
export type ExpertKind = (typeof EXPERT_KINDS)[number]

/** So many experts of one kind; a layer's experts are runs, in their order. */
export interface ExpertRun {
  readonly kind: ExpertKind
  readonly count: number
}

const SCORES = { softmax: 0, sigmoid: 1 } as const

/** Attributes of top-K gating: native/ops.h, RouteTopKArgs. */
export interface Gating {
  readonly topK: number
  readonly experts: readonly ExpertRun[]
  readonly scores: keyof typeof SCORES
  /** The weights are divided by the sum of the K chosen. */
  readonly normalise: boolean
  /** A zero expert's weight becomes 0 before that. */
  readonly dropZero?: boolean
  /** Zero-computation experts score 0. */
  readonly masked?: boolean
  readonly groups?: number
  readonly topGroups?: number
  readonly normStd?: number
  readonly inputScale?: number
  readonly weightScale?: number
}

const gatingAttributes = (g: Gating) => ({
  experts: g.experts.flatMap(({ kind, count }) => [EXPERT_KINDS.indexOf(kind), count]),
  scores: SCORES[g.scores],
  normalise: Number(g.normalise),
  drop_zero: Number(g.dropZero ?? false),
  masked: Number(g.masked ?? false),
  groups: g.groups ?? 1,
  top_groups: g.topGroups ?? 1,
  norm_std: g.normStd ?? 0,
  input_scale: g.inputScale ?? 1,
  weight_scale: g.weightScale ?? 1,
})

const countOf = (kind: ExpertKind, { experts }: Gating) =>
  experts.reduce((sum, run) => sum + (run.kind === kind ? run.count : 0), 0)

/** `scope`.expert_indices and `scope`.expert_weights are the picks, [T, K]. */
export function routeTopK(
  p: ProgramBuilder,
  scope: Label,
  args: {
    logits: Buffer
    constantScores?: Buffer | undefined
    selectionBias?: Weight | undefined
  } & Gating,
): Route {
  const { logits, constantScores, selectionBias, ...gating } = args
  const tokens = dimension(logits, 0)
  const picks = [tokens, gating.topK]
  const written = p.op(
    'route_top_k',
    `${scope}.route_top_k`,
    { logits, constant_scores: constantScores, selection_bias: selectionBias },
    {
      expert_indices: { name: `${scope}.expert_indices`, shape: picks, dtype: 'i32' },
      expert_weights: { name: `${scope}.expert_weights`, shape: picks },
      coefficients: {
        name: `${scope}.coefficients`,
        shape: [tokens, countOf('constant', gating) + 1],
      },
      expert_offsets: {
        name: `${scope}.expert_offsets`,
        shape: [countOf('ffn', gating) + 1],
        dtype: 'i32',
      },
      token_order: { name: `${scope}.token_order`, shape: picks, dtype: 'i32' },
      expert_rows: { name: `${scope}.expert_rows`, shape: picks, dtype: 'i32' },
    },
    gatingAttributes(gating),
  )
  return {
    expertIndices: written.expert_indices,
    expertWeights: written.expert_weights,
    coefficients: written.coefficients,
    expertOffsets: written.expert_offsets,
    tokenOrder: written.token_order,
    expertRows: written.expert_rows,
  }
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
    { input_scale: inputScale, activation: ACTIVATION.swiglu, ...mayRoundX(weight) },
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
    { input_scale: 1, activation: ACTIVATION.none, ...mayRoundX(weight) },
  ).out
}

interface CombineArgs {
  readonly residual: Buffer
  /** Added to the residual first. */
  readonly delta?: Buffer | undefined
  readonly x: Buffer
  readonly expertOut: Buffer
  readonly route: Route
  readonly constants?: Weight | undefined
}

function combineInputs(args: CombineArgs) {
  const { residual, delta, x, expertOut, route, constants } = args
  return {
    residual,
    delta,
    x,
    expert_out: expertOut,
    coefficients: route.coefficients,
    expert_weights: route.expertWeights,
    expert_rows: route.expertRows,
    constants,
  }
}

/**
 * The MoE layer's output (captured as `scope`.moe_output), and its sum with the residual under
 * `sum`.
 */
export function combine(p: ProgramBuilder, scope: Label, args: CombineArgs, sum: string): Buffer {
  const { shape } = args.x
  return p.op('combine', `${scope}.combine`, combineInputs(args), {
    moe_output: { name: `${scope}.moe_output`, shape },
    sum: { name: sum, shape },
  }).sum
}

/** The same, and that sum's RMSNorm. */
export function combineRmsNorm(
  p: ProgramBuilder,
  scope: Label,
  args: CombineArgs & { normWeight: Weight; eps: number },
  names: { sum: string; out: string },
): { sum: Buffer; out: Buffer } {
  const { shape } = args.x
  const written = p.op(
    'combine',
    `${scope}.combine`,
    { ...combineInputs(args), norm_weight: args.normWeight },
    {
      moe_output: { name: `${scope}.moe_output`, shape },
      sum: { name: names.sum, shape },
      out: { name: names.out, shape },
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
