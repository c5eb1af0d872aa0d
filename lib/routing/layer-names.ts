/** A layer with experts: the buffers to capture, and how its router computes. */
import { type ModelSpec, routersOf } from '../program/model-spec.js'
import { type ExpertKind, kindsOf } from '../program/moe-ops.js'
import { type ResidualMap, readResidualMaps } from './residual.js'

export interface SurveyLayer {
  readonly layer: number
  readonly topK: number
  readonly kinds: readonly ExpertKind[]
  /** Names of buffers. */
  readonly indices: string
  readonly weights: string
  readonly logits: string
  readonly constantScores: string | undefined
  readonly residual: ResidualMap | undefined
  /** Attributes of route_top_k. */
  readonly normStd: number
  readonly masked: boolean
  readonly inputScale: number
}

/** In the order of the layers; none if the model has no experts. */
export async function surveyLayers(spec: ModelSpec): Promise<SurveyLayer[]> {
  const maps = await readResidualMaps(spec)
  return routersOf(spec).map(({ layer, topK, experts, indices, weights }) => {
    const { tensors, attributes } = spec.ops.find(
      ({ op, tensors }) => op === 'route_top_k' && tensors.expert_indices === indices,
    )!
    const logits = tensors.logits!
    return {
      layer,
      topK,
      kinds: kindsOf(experts),
      indices,
      weights,
      logits,
      constantScores: tensors.constant_scores,
      residual: maps.get(logits),
      normStd: attributes.norm_std as number,
      masked: attributes.masked === 1,
      inputScale: attributes.input_scale as number,
    }
  })
}

export function captureNames(layers: readonly SurveyLayer[]): string[] {
  return layers.flatMap(({ indices, weights, logits, constantScores }) => [
    indices,
    weights,
    logits,
    ...(constantScores ? [constantScores] : []),
  ])
}
