/** One MoE++ layer: router with gating residual, zero-computation experts, FFN experts. MODEL.md, "The MoE layer". */
import type { ModelConfig } from '../config.js'
import type { Buffer, ProgramBuilder, Weight } from '../program/builder.js'
import { combine, groupedGemm, groupedSwiglu, linear, routerLogits, routeTopK } from '../program/ops.js'
import type { ModelWeights } from './weights.js'

export interface MoeInput {
  /** [T, H] what the layer's output is added to. */
  readonly residual: Buffer
  /** [T, H] its RMSNorm: the input of router and experts. */
  readonly x: Buffer
  /** [T, E] accumulated logits of the layer before; none in the first. */
  readonly previousLogits: Buffer | undefined
  /** [H] of the norm that follows: the next layer's, or the last. */
  readonly nextNorm: Weight
}

export interface MoeOutput {
  readonly sum: Buffer
  readonly normalised: Buffer
  readonly logits: Buffer
}

export function moe(
  p: ProgramBuilder,
  w: ModelWeights,
  c: ModelConfig,
  layer: number,
  input: MoeInput,
  names: { sum: string; out: string },
): MoeOutput {
  const scope = `layers.${layer}`
  const { logits, constantScores } = router(p, w, c, layer, input)
  const route = routeTopK(p, scope, {
    logits,
    constantScores,
    topK: c.topK,
    ffnExperts: c.ffnExperts,
    normStd: c.logitsNorm ? c.gateNormStd : 0,
    inputScale: c.inputScale,
    mixtral: c.mixtralGating,
  })
  const experts = expertWeights(w, c, layer)
  const hidden = groupedSwiglu(p, `${scope}.moe.gate_up`, {
    x: input.x,
    route,
    weight: experts.gateUp,
    inputScale: c.inputScale,
  })
  const expertOut = groupedGemm(p, `${scope}.moe.down`, { x: hidden, route, weight: experts.down })
  const { sum, out } = combine(
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
  return { sum, normalised: out, logits }
}

function router(p: ProgramBuilder, w: ModelWeights, c: ModelConfig, layer: number, input: MoeInput) {
  const scope = `layers.${layer}`
  const gate = `model.layers.${layer}.mlp.moe.gate`
  const width = 8 * c.experts
  const hidden = c.twoLayerRouter
    ? linear(p, `${scope}.router_hidden`, {
        x: input.x,
        weight: w.small(`${gate}.wg.0.weight`, [width, c.hiddenSize]),
        activation: 'tanh',
      })
    : undefined
  const experts = `model.layers.${layer}.mlp.moe.experts.experts`
  return routerLogits(
    p,
    `${scope}.router`,
    {
      x: input.x,
      hidden,
      previousLogits: input.previousLogits,
      router: c.twoLayerRouter
        ? w.small(`${gate}.wg.2.weight`, [c.experts, width])
        : w.small(`${gate}.wg.weight`, [c.experts, c.hiddenSize]),
      residualMap: input.previousLogits && w.small(`${gate}.gate_map.weight`, [c.experts, c.experts]),
      constantRouter: w.small(
        `${experts}.constant.wg`,
        [2 * 2, c.hiddenSize],
        [c.ffnExperts, c.ffnExperts + 1].map(e => `${experts}.${e}.wg.weight`),
      ),
    },
    `${scope}.router_logits`,
  )
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
