/**
 * One MoE++ layer: router with gating residual, zero-computation experts, FFN experts. MODEL.md,
 * "The MoE layer".
 */
import type { ModelConfig } from '../config.js'
import type { Buffer, ProgramBuilder, Weight } from '../program/builder.js'
import {
  addRmsNorm,
  combineRmsNorm,
  type Gating,
  groupedGemm,
  groupedSwiglu,
  linear,
  type Route,
  routerLogits,
  routeTopK,
} from '../program/ops.js'
import type { ModelWeights } from './weights.js'

export interface MoeInput {
  /** [T, H] what the layer's output is added to. */
  readonly residual: Buffer
  /** [T, H] its RMSNorm: the input of the experts. */
  readonly x: Buffer
  readonly route: Route
  /** [H] of the norm that follows: the next layer's, or the last. */
  readonly nextNorm: Weight
}

/** The experts of the layer, and the RMSNorm that follows. */
export function moe(
  p: ProgramBuilder,
  w: ModelWeights,
  c: ModelConfig,
  layer: number,
  input: MoeInput,
  names: { sum: string; out: string },
): { sum: Buffer; out: Buffer } {
  const scope = `layers.${layer}`
  const { route } = input
  const experts = expertWeights(w, c, layer)
  const hidden = groupedSwiglu(p, `${scope}.moe.gate_up`, {
    x: input.x,
    route,
    weight: experts.gateUp,
    inputScale: c.inputScale,
  })
  const expertOut = groupedGemm(p, `${scope}.moe.down`, { x: hidden, route, weight: experts.down })
  return combineRmsNorm(
    p,
    scope,
    {
      residual: input.residual,
      x: input.x,
      expertOut,
      route,
      constants: experts.constants,
      normWeight: input.nextNorm,
      eps: c.rmsNormEps,
    },
    names,
  )
}

/**
 * sum = x + delta, the RMSNorm `out` that the router and the experts read, and where they send each
 * token.
 */
export function normRouteTokens(
  p: ProgramBuilder,
  w: ModelWeights,
  c: ModelConfig,
  layer: number,
  input: { x: Buffer; delta: Buffer; previousLogits: Buffer | undefined },
): { sum: Buffer; out: Buffer; logits: Buffer; route: Route } {
  const scope = `layers.${layer}`
  const norm = `${scope}.post_attention_norm`
  const normWeight = w.small(`model.layers.${layer}.post_attention_layernorm.weight`, [
    c.hiddenSize,
  ])
  const { x, delta, previousLogits } = input
  const middle = addRmsNorm(p, norm, { x, delta, weight: normWeight, eps: c.rmsNormEps })
  return { ...middle, ...routeTokens(p, w, c, layer, { x: middle.out, previousLogits }) }
}

/** The router alone, on a normalised x. */
export function routeTokens(
  p: ProgramBuilder,
  w: ModelWeights,
  c: ModelConfig,
  layer: number,
  input: { x: Buffer; previousLogits: Buffer | undefined },
): { logits: Buffer; route: Route } {
  const scope = `layers.${layer}`
  const hidden = c.twoLayerRouter
    ? linear(p, `${scope}.router_hidden`, {
        x: input.x,
        weight: w.small(`model.layers.${layer}.mlp.moe.gate.wg.0.weight`, [
          8 * c.experts,
          c.hiddenSize,
        ]),
        activation: 'tanh',
      })
    : undefined
  const { logits, constantScores } = routerLogits(
    p,
    `${scope}.router`,
    { ...input, hidden, ...routerWeights(w, c, layer, input.previousLogits) },
    `${scope}.router_logits`,
  )
  return { logits, route: routeTopK(p, scope, { logits, constantScores, ...gatingOf(c) }) }
}

export function gatingOf(c: ModelConfig): Gating {
  return {
    topK: c.topK,
    experts: [
      { kind: 'ffn', count: c.ffnExperts },
      { kind: 'constant', count: 2 },
      { kind: 'copy', count: 1 },
      { kind: 'zero', count: 1 },
    ],
    scores: 'softmax',
    normalise: true,
    dropZero: !c.mixtralGating,
    normStd: c.logitsNorm ? c.gateNormStd : 0,
    inputScale: c.inputScale,
  }
}

function routerWeights(
  w: ModelWeights,
  c: ModelConfig,
  layer: number,
  previousLogits: Buffer | undefined,
) {
  const gate = `model.layers.${layer}.mlp.moe.gate`
  const experts = `model.layers.${layer}.mlp.moe.experts.experts`
  return {
    router: c.twoLayerRouter
      ? w.small(`${gate}.wg.2.weight`, [c.experts, 8 * c.experts])
      : w.small(`${gate}.wg.weight`, [c.experts, c.hiddenSize]),
    residualMap: previousLogits && w.small(`${gate}.gate_map.weight`, [c.experts, c.experts]),
    constantRouter: w.small(
      `${experts}.constant.wg`,
      [2 * 2, c.hiddenSize],
      [c.ffnExperts, c.ffnExperts + 1].map(e => `${experts}.${e}.wg.weight`),
    ),
  }
}

function expertWeights(w: ModelWeights, c: ModelConfig, layer: number) {
  const experts = `model.layers.${layer}.mlp.moe.experts.experts`
  const { hiddenSize: H, intermediateSize: F, ffnExperts: N } = c
  const ofEach = (name: string) => Array.from({ length: N }, (_, e) => `${experts}.${e}.${name}`)
  return {
    gateUp: w.experts(`${experts}.up_proj`, [N, 2 * F, H], ofEach('up_proj.weight')),
    down: w.experts(`${experts}.down_proj`, [N, H, F], ofEach('down_proj.weight')),
    constants: w.small(
      `${experts}.constant`,
      [2, H],
      [N, N + 1].map(e => `${experts}.${e}.constant`),
    ),
  }
}
