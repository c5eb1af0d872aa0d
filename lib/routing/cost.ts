/** The cost of routing, for a model and for its vanilla twin: operations and bytes of a token. */
import {
  bytesOfStep,
  type ModelSpec,
  mostFfnPicks,
  operationsOfPrefill,
  routersOf,
  type StepRouting,
} from '../program/model-spec.js'
import { ffnExpertsPerToken } from './balance.js'
import type {
  Cost,
  CostCeilings,
  LayerStatistics,
  MeasuredCost,
  Seconds,
  TokenCost,
} from './types.js'

export interface CostOptions {
  readonly spec: ModelSpec
  readonly layers: readonly LayerStatistics[]
  /** A prefill is one of a window; a decode step has half a window in its cache. */
  readonly windowTokens: number
  readonly cacheDtype: 'f32' | 'bf16'
}

/** By counting: no ceilings, no seconds. Without tokens the model's FFN experts cost nothing. */
export function costOf({ spec, layers, windowTokens, cacheDtype }: CostOptions): Cost {
  const total = (perToken: (layer: LayerStatistics) => number) =>
    layers.reduce((sum, layer) => sum + perToken(layer), 0)
  const routers = routersOf(spec)
  const twinPicks = routers.reduce((sum, router) => sum + mostFfnPicks(router), 0)
  const cost = (picks: number, ffnExperts: number): TokenCost => ({
    ffnExperts: ffnExperts / Math.max(1, routers.length),
    operations: operationsPerToken(spec, picks, windowTokens),
    // The experts of one token are different ones.
    bytes: bytesOfStep(spec, { touched: picks }, windowTokens / 2, cacheDtype),
    predicted: null,
    measured: null,
  })
  return {
    model: cost(total(ffnPicks), total(ffnExpertsPerToken)),
    twin: cost(twinPicks, twinPicks),
    ceilings: null,
  }
}

/** In a prefill of a window, which ends with one row of logits. */
function operationsPerToken(spec: ModelSpec, picks: number, tokens: number): number {
  const routing: Pick<StepRouting, 'picks'> = { picks: picks * tokens }
  return operationsOfPrefill(spec, tokens, routing, 1) / tokens
}

/** Of a token: computed whatever their weight. */
function ffnPicks({ picks, kinds, tokens }: LayerStatistics): number {
  const all = picks.reduce((sum, count, i) => sum + (kinds[i] === 'ffn' ? count : 0), 0)
  return all / Math.max(tokens, 1)
}

/** The cost with ceilings and seconds. */
export function withMeasured(cost: Cost, { model, twin, ceilings }: MeasuredCost): Cost {
  const complete = (token: TokenCost, measured: Seconds): TokenCost => ({
    ...token,
    predicted: ceilings && predicted(token, ceilings),
    measured,
  })
  return { model: complete(cost.model, model), twin: complete(cost.twin, twin), ceilings }
}

function predicted({ operations, bytes }: TokenCost, ceilings: CostCeilings): Seconds {
  return {
    prefill: operations / ceilings.operationsPerSecond,
    decode: bytes / ceilings.bytesPerSecond,
  }
}
