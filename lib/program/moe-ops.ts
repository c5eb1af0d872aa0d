/** The ops of a mixture of experts: router, gating, the experts' products, their sum. */
import type { Dimension } from '../addon/binding.js'
import type { Buffer, ProgramBuilder, Weight } from './builder.js'
import { EXPERT_KINDS, type ExpertKind } from './expert-kinds.js'
import { ACTIVATION, dimension, type Label, size } from './ops.js'

/** The experts of a layer in order: kinds, and how many of each. */
export type ExpertRuns = readonly {
  readonly kind: ExpertKind
  readonly count: number
}[]

/** Experts of a kind, or of all kinds. */
export function expertCount(runs: ExpertRuns, kind?: ExpertKind): number {
  return runs.reduce((sum, run) => (kind && run.kind !== kind ? sum : sum + run.count), 0)
}

/** The attribute `experts` of native ops. */
const expertAttribute = (runs: ExpertRuns): number[] =>
  runs.flatMap(({ kind, count }) => [EXPERT_KINDS.indexOf(kind), count])

/** [E] the kind of each expert. */
export function kindsOf(runs: ExpertRuns): ExpertKind[] {
  return runs.flatMap(({ kind, count }) => Array<ExpertKind>(count).fill(kind))
}

/** Top-K gating: native/ops/route_top_k.h. */
export interface Gating {
  readonly topK: number
  readonly experts: ExpertRuns
  /** Default 'softmax'. */
  readonly scores?: 'softmax' | 'sigmoid'
  /** The weights of the chosen are divided by their sum. */
  readonly normalise: boolean
  /** A zero expert's weight becomes 0 before that. */
  readonly dropZero?: boolean
  /** Factor of the final weights. Default 1. */
  readonly weightScale?: number
  /** Logits are scaled to this standard deviation. Default 0: they are not. */
  readonly normStd?: number
  /** Factor of the experts' input. Default 1. */
  readonly inputScale?: number
  /** Zero-computation experts are masked. */
  readonly masked?: boolean
  /** The best of so many groups stay. */
  readonly groups?: { readonly count: number; readonly chosen: number }
}

/**
 * `scope`.router_logits are the accumulated logits, [T, E]; `scope`.constant_scores those of the
 * constant experts, [T, 2C].
 */
export function routerLogits(
  p: ProgramBuilder,
  scope: Label,
  args: {
    x: Buffer
    hidden?: Buffer | undefined
    previousLogits?: Buffer | undefined
    router: Weight
    residualMap?: Weight | undefined
    constantRouter?: Weight | undefined
  },
): { logits: Buffer; constantScores: Buffer | undefined } {
  const { constantRouter } = args
  const tokens = dimension(args.x, 0)
  const inputs = {
    x: args.x,
    hidden: args.hidden,
    previous_logits: args.previousLogits,
    router: args.router,
    residual_map: args.residualMap,
    constant_router: constantRouter,
  }
  const label = `${scope}.router`
  const logits = { name: `${scope}.router_logits`, shape: [tokens, size(args.router, 0)] }
  if (!constantRouter)
    return { ...p.op('router_logits', label, inputs, { logits }), constantScores: undefined }
  const scores = { name: `${scope}.constant_scores`, shape: [tokens, size(constantRouter, 0)] }
  const written = p.op('router_logits', label, inputs, { logits, constant_scores: scores })
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

/** FFN picks in the order of their experts. */
export type SortedPicks = Pick<Route, 'expertOffsets' | 'tokenOrder'>

/** The outputs of route_top_k for T tokens. */
function routeOutputs(scope: Label, tokens: Dimension, { topK, experts }: Gating) {
  const picks = [tokens, topK]
  const out = (name: string, shape: readonly Dimension[], dtype: 'f32' | 'i32') => ({
    name: `${scope}.${name}`,
    shape,
    dtype,
  })
  return {
    expert_indices: out('expert_indices', picks, 'i32'),
    expert_weights: out('expert_weights', picks, 'f32'),
    coefficients: out('coefficients', [tokens, expertCount(experts, 'constant') + 1], 'f32'),
    expert_offsets: out('expert_offsets', [expertCount(experts, 'ffn') + 1], 'i32'),
    token_order: out('token_order', picks, 'i32'),
    expert_rows: out('expert_rows', picks, 'i32'),
  }
}

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
  const { groups = { count: 1, chosen: 1 } } = args
  const written = p.op(
    'route_top_k',
    `${scope}.route_top_k`,
    {
      logits: args.logits,
      constant_scores: args.constantScores,
      selection_bias: args.selectionBias,
    },
    routeOutputs(scope, dimension(args.logits, 0), args),
    {
      experts: expertAttribute(args.experts),
      scores: args.scores === 'sigmoid' ? 1 : 0,
      normalise: Number(args.normalise),
      drop_zero: Number(args.dropZero ?? false),
      weight_scale: args.weightScale ?? 1,
      norm_std: args.normStd ?? 0,
      input_scale: args.inputScale ?? 1,
      masked: Number(args.masked ?? false),
      groups: groups.count,
      top_groups: groups.chosen,
    },
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

/** The ranks that compute the FFN experts of a layer, as one of them sees it. */
export interface RankExperts {
  /** Their number. */
  readonly ranks: number
  /** [N] the rank that this rank's picks of each FFN expert go to. */
  readonly destinations: readonly number[]
  /** [L] the FFN experts that this rank holds, in the order of its stack of weights. */
  readonly held: readonly number[]
}

/** Rows of P tokens of all ranks, and what collectTokens takes them back by. */
export interface Dispatched {
  readonly rows: Buffer
  /** For groupedSwiglu and groupedGemm over the rows. */
  readonly route: SortedPicks
  readonly exchange: Readonly<
    Record<'sent_picks' | 'sent_offsets' | 'received_picks' | 'received_offsets', Buffer>
  >
}

/** Each token's row to the ranks that hold its experts, and the rows that come from them. */
export function dispatchTokens(
  p: ProgramBuilder,
  scope: Label,
  args: { x: Buffer; route: Route; experts: ExpertRuns; on: RankExperts },
): Dispatched {
  const { x, route, experts, on } = args
  const topK = dimension(route.expertRows, 1)
  const out = (name: string, shape: readonly Dimension[], dtype: 'f32' | 'i32' = 'i32') => ({
    name: `${scope}.dispatch.${name}`,
    shape,
    dtype,
  })
  const written = p.op(
    'dispatch_tokens',
    `${scope}.dispatch`,
    { x, expert_indices: route.expertIndices, expert_rows: route.expertRows },
    {
      rows: out('rows', ['P', dimension(x, 1)], 'f32'),
      expert_offsets: out('expert_offsets', [on.held.length + 1]),
      token_order: out('token_order', ['P', topK]),
      sent_picks: out('sent_picks', route.expertRows.shape),
      sent_offsets: out('sent_offsets', [on.ranks + 1]),
      received_picks: out('received_picks', ['P', topK]),
      received_offsets: out('received_offsets', [on.ranks + 1]),
    },
    { experts: expertAttribute(experts), destinations: on.destinations, held: on.held },
  )
  const { rows, expert_offsets, token_order, ...exchange } = written
  return { rows, route: { expertOffsets: expert_offsets, tokenOrder: token_order }, exchange }
}

/** The experts' rows back to their tokens: [T, K, H], as one rank alone would have them. */
export function collectTokens(
  p: ProgramBuilder,
  scope: Label,
  args: { expertOut: Buffer; dispatched: Dispatched; route: Route },
): Buffer {
  const { expertOut, dispatched, route } = args
  const shape = [...route.expertRows.shape, dimension(expertOut, 2)]
  return p.op(
    'collect_tokens',
    `${scope}.collect`,
    { received_out: expertOut, ...dispatched.exchange },
    { expert_out: { name: `${scope}.collect.out`, shape } },
  ).expert_out
}

/**
 * silu(gate x) * (up x) of each token's FFN experts; weight [N, 2F, H] gives [T, K, F], rows sorted
 * by expert.
 */
export function groupedSwiglu(
  p: ProgramBuilder,
  label: Label,
  args: { x: Buffer; route: SortedPicks; weight: Weight; inputScale: number },
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
  args: { x: Buffer; route: SortedPicks; weight: Weight },
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
 * The MoE layer's output (captured as `scope`.moe_output), its sum with the residual, and that
 * sum's RMSNorm, under `names`.
 */
export function combine(
  p: ProgramBuilder,
  scope: Label,
  args: {
    residual: Buffer
    /** Added to the sum as well. */
    delta?: Buffer | undefined
    x: Buffer
    expertOut: Buffer
    route: Route
    constants?: Weight | undefined
    normWeight: Weight
    eps: number
  },
  names: { readonly sum: string; readonly out: string },
): { moeOutput: Buffer; sum: Buffer; out: Buffer } {
  const { residual, delta, x, route } = args
  const written = p.op(
    'combine',
    `${scope}.combine`,
    {
      residual,
      delta,
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
  return { moeOutput: written.moe_output, sum: written.sum, out: written.out }
}
