/** The layers with experts, as a survey needs them. */
import type { ExpertKind } from '../program/expert-kinds.js'
import { type ModelSpec, type Router, routersOf } from '../program/model-spec.js'
import { kindsOf } from '../program/moe-ops.js'
import { type ResidualMap, readResidualMaps } from './residual.js'

export interface SurveyLayer extends Router {
  readonly kinds: readonly ExpertKind[]
  readonly residual: ResidualMap | undefined
}

/** In the order of the layers; none if the model has no experts. */
export async function surveyLayers(spec: ModelSpec): Promise<SurveyLayer[]> {
  const maps = await readResidualMaps(spec)
  return routersOf(spec).map(router => ({
    ...router,
    kinds: kindsOf(router.experts),
    residual: maps.get(router.logits),
  }))
}

/** Names of the buffers to capture. */
export function captureNames(layers: readonly SurveyLayer[]): string[] {
  return layers.flatMap(({ indices, weights, logits, constantScores }) => [
    indices,
    weights,
    logits,
    ...(constantScores ? [constantScores] : []),
  ])
}
