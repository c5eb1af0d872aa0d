/**
 * A mixture of experts, where some compute nothing: the norm before it, the router, the experts,
 * and the norm after it.
 */
import type { Buffer, Weight } from '../program/builder.js'
import type { ModelBuilder, Part } from '../program/model-builder.js'
import {
  collectTokens,
  combine,
  dispatchTokens,
  expertCount,
  type Gating,
  groupedGemm,
  groupedSwiglu,
  type Route,
  routerLogits,
  routeTopK,
} from '../program/moe-ops.js'
import { type NextNorm, postAttentionNorm, type Stream } from './decoder.js'
import { feedForward, type Mlp } from './mlp.js'

export interface Moe {
  readonly gating: Gating
  /** The input of the router's last matrix, if it has two. */
  readonly hidden?: ((y: Buffer) => Buffer) | undefined
  /** [E, H], or [E, G] of a two-layer router. */
  readonly router: Weight
  /** [T, E] logits of the layer before, and the map [E, E] of them. */
  readonly residual?: { readonly logits: Buffer; readonly map: Weight } | undefined
  /** [2C, H] scores of the constant experts, and their vectors [C, H]. */
  readonly constants?: { readonly router: Weight; readonly vectors: Weight } | undefined
  /** [E] added to the scores when experts are chosen, not when they are weighted. */
  readonly selectionBias?: Weight | undefined
  /** [N, 2F, H]: gate rows, then up rows, of each FFN expert. */
  readonly gateUp: Weight
  /** [N, H, F] */
  readonly down: Weight
  /** A network that every token takes beside its picks. */
  readonly shared?: Mlp | undefined
}

/** The experts' results of y. */
export interface Routed {
  readonly y: Buffer
  readonly route: Route
  /** [T, E], before any normalisation. */
  readonly logits: Buffer
  /** [T, K, H], rows sorted by expert. */
  readonly expertOut: Buffer
}

/** The router on y, and the FFN experts on their tokens. */
export function routeToExperts(m: ModelBuilder, layer: number, y: Buffer, parts: Moe): Routed {
  const scope = `layers.${layer}`
  const { logits, constantScores } = routerLogits(m, scope, {
    x: y,
    hidden: parts.hidden?.(y),
    router: parts.router,
    previousLogits: parts.residual?.logits,
    residualMap: parts.residual?.map,
    constantRouter: parts.constants?.router,
  })
  const route = routeTopK(m, scope, {
    logits,
    constantScores,
    selectionBias: parts.selectionBias,
    ...parts.gating,
  })
  const expertOut = experts(m, layer, { y, route }, parts)
  for (const buffer of [logits, route.expertIndices, route.expertWeights]) m.capture(buffer)
  if (constantScores) m.capture(constantScores)
  return { y, route, logits, expertOut }
}

/** residual + delta + the experts' sum, and the norm `next` of that. */
export function combineExperts(
  m: ModelBuilder,
  layer: number,
  { y, route, expertOut }: Routed,
  { residual, delta }: { residual: Buffer; delta?: Buffer | undefined },
  { constants }: Moe,
  next: NextNorm,
): Stream {
  const { moeOutput, sum, out } = combine(
    m,
    `layers.${layer}`,
    {
      residual,
      delta,
      x: y,
      expertOut,
      route,
      constants: constants?.vectors,
      normWeight: next.weight,
      eps: next.eps,
    },
    next,
  )
  m.capture(moeOutput)
  return { x: sum, y: out }
}

/**
 * x + delta (attention's output), its norm y, the experts on y, their sum, and the norm `next`.
 * `logits` are the router's.
 */
export function moe(
  m: ModelBuilder,
  layer: number,
  attended: { x: Buffer; delta: Buffer },
  parts: Moe,
  next: NextNorm,
): Stream & { logits: Buffer } {
  const input = postAttentionNorm(m, layer, attended, next.eps)
  const routed = routeToExperts(m, layer, input.out, parts)
  const delta = parts.shared && sharedExpert(m, layer, input.out, parts.shared)
  const stream = combineExperts(m, layer, routed, { residual: input.sum, delta }, parts, next)
  return { ...stream, logits: routed.logits }
}

function sharedExpert(m: ModelBuilder, layer: number, y: Buffer, parts: Mlp): Buffer {
  const scope = `layers.${layer}`
  return m.capture(
    feedForward(m, `${scope}.shared_expert`, y, parts, `${scope}.shared_expert_output`),
  )
}

/** The FFN experts on their tokens; in a group each at a rank that holds it. */
function experts(
  m: ModelBuilder,
  layer: number,
  { y, route }: { y: Buffer; route: Route },
  { gating, gateUp, down }: Moe,
): Buffer {
  const scope = `layers.${layer}`
  const on = m.share(layer, expertCount(gating.experts, 'ffn'))
  const dispatched = on && dispatchTokens(m, scope, { x: y, route, experts: gating.experts, on })
  const { rows: x, route: picks } = dispatched ?? { rows: y, route }
  const inputScale = gating.inputScale ?? 1
  const args = { x, route: picks, weight: gateUp, inputScale }
  const hidden = groupedSwiglu(m, `${scope}.moe.gate_up`, args)
  const out = groupedGemm(m, `${scope}.moe.down`, { x: hidden, route: picks, weight: down })
  return dispatched ? collectTokens(m, scope, { expertOut: out, dispatched, route }) : out
}

/**
 * The same matrix of each of a layer's `count` FFN experts: [count, ...shape]. A rank of a group
 * has those that it holds. One tensor of that shape, as
 * transformers 5 has in memory, goes before those of each expert.
 */
export function expertMatrix(
  m: ModelBuilder,
  layer: number,
  name: string,
  count: number,
  shape: readonly number[],
  partsOf: (expert: number) => Part | readonly Part[],
  fusedName = name,
): Weight {
  const taken = m.share(layer, count)?.held
  const fused = { name: fusedName, shape: [count, ...shape], taken }
  const experts = taken ?? Array.from({ length: count }, (_, expert) => expert)
  const parts = m.isStored(fusedName) ? [fused] : experts.flatMap(partsOf)
  return m.matrix('ffnExperts', name, fused.shape, parts, taken)
}
