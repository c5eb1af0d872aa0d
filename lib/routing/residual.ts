/** A router's own logits: without the part of the layer before (gating residuals, MoE++). */
import type { ModelSpec } from '../program/model-spec.js'
import { readTensor } from '../tensor/read-tensor.js'
import { isPacked } from '../tensor/tensor-ref.js'

/** The map G [E, E] of a layer, and the name of the logits R' [T, E] that it is applied to. */
export interface ResidualMap {
  readonly previous: string
  readonly map: Float32Array
}

/** By the name of a layer's logits. Layers without a map are left out. */
export async function readResidualMaps(spec: ModelSpec): Promise<Map<string, ResidualMap>> {
  const maps = new Map<string, ResidualMap>()
  const weights = new Map(spec.weights.map(weight => [weight.name, weight]))
  for (const { op, tensors } of spec.ops) {
    const { logits, residual_map: name, previous_logits: previous } = tensors
    if (op !== 'router_logits' || !logits || !name || !previous) continue
    // Routers are never packed, and a map is one tensor.
    const stored = weights.get(name)!.parts[0]!
    if (!isPacked(stored)) maps.set(logits, { previous, map: await readTensor(stored) })
  }
  return maps
}

/**
 * g = R - G R' for each token, in f64.
 * @param own [T, E] gets g
 */
export function ownLogits(
  logits: Float32Array,
  previous: Float32Array,
  map: Float32Array,
  own: Float64Array,
): void {
  const experts = Math.sqrt(map.length)
  for (let row = 0; row < logits.length; row += experts) {
    let at = 0
    for (let e = 0; e < experts; e++) {
      // Two sums, so that additions need not wait for each other.
      let even = 0
      let odd = 0
      let i = 0
      for (; i + 1 < experts; i += 2) {
        even += map[at + i]! * previous[row + i]!
        odd += map[at + i + 1]! * previous[row + i + 1]!
      }
      if (i < experts) even += map[at + i]! * previous[row + i]!
      own[row + e] = logits[row + e]! - (even + odd)
      at += experts
    }
  }
}
