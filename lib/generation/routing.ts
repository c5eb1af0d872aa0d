/** Records the experts that the tokens of a sequence went to. */
import { ffnMask, type Router } from '../program/model-spec.js'
import type { CaptureRecorder } from './capture.js'
import type { Routing } from './results.js'

export function routingNames(routers: readonly Router[]): string[] {
  return routers.flatMap(({ indices, weights }) => [indices, weights])
}

/** The statistics of the buffers captured under `routingNames`. */
export function routingOf(recorder: CaptureRecorder, routers: readonly Router[]): Routing {
  const layers = routers.map(({ layer, indices, weights }) => ({
    layer,
    expertIndices: (recorder.rows(indices) ?? new Int32Array()) as Int32Array,
    expertWeights: (recorder.rows(weights) ?? new Float32Array()) as Float32Array,
  }))
  const tokens = (layers[0]?.expertIndices.length ?? 0) / (routers[0]?.topK ?? 1)
  let picks = 0
  for (const [i, { expertIndices, expertWeights }] of layers.entries()) {
    const isFfn = ffnMask(routers[i]!.experts)
    for (const [at, expert] of expertIndices.entries())
      if (isFfn[expert] && expertWeights[at]! > 0) picks++
  }
  return { tokens, layers, ffnExpertsPerToken: tokens === 0 ? 0 : picks / (tokens * layers.length) }
}
