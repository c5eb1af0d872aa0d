/** Records the experts that the tokens of a sequence went to. */
import type { ModelConfig } from '../config.js'
import type { CaptureRecorder } from './capture.js'
import type { Routing } from './results.js'

export function routingNames(config: Pick<ModelConfig, 'layers'>): string[] {
  return Array.from({ length: config.layers }, (_, layer) => [
    indicesOf(layer),
    weightsOf(layer),
  ]).flat()
}

/** The statistics of the buffers captured under `routingNames`. */
export function routingOf(
  recorder: CaptureRecorder,
  config: Pick<ModelConfig, 'layers' | 'topK' | 'ffnExperts'>,
): Routing {
  const layers = Array.from({ length: config.layers }, (_, layer) => ({
    expertIndices: (recorder.rows(indicesOf(layer)) ?? new Int32Array()) as Int32Array,
    expertWeights: (recorder.rows(weightsOf(layer)) ?? new Float32Array()) as Float32Array,
  }))
  const tokens = (layers[0]?.expertIndices.length ?? 0) / config.topK
  let picks = 0
  for (const { expertIndices, expertWeights } of layers) {
    for (let i = 0; i < expertIndices.length; i++) {
      if (expertIndices[i]! < config.ffnExperts && expertWeights[i]! > 0) picks++
    }
  }
  return { tokens, layers, ffnExpertsPerToken: tokens === 0 ? 0 : picks / (tokens * config.layers) }
}

function indicesOf(layer: number): string {
  return `layers.${layer}.expert_indices`
}

function weightsOf(layer: number): string {
  return `layers.${layer}.expert_weights`
}
