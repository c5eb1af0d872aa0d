/** Tensors of feed-forward layers and experts, as several families name them. */
import type { Mlp } from '../layers/mlp.js'
import { expertMatrix, type Moe } from '../layers/moe.js'
import type { ModelBuilder } from '../program/model-builder.js'
import { type ExpertRuns, kindsOf } from '../program/moe-ops.js'

const part = (prefix: string, name: string, shape: readonly number[]) => ({
  name: `${prefix}.${name}_proj.weight`,
  shape,
})

/** The matrices of a dense layer of F intermediate elements. */
export function storedMlp(m: ModelBuilder, prefix: string, H: number, F: number): Mlp {
  const halves = [part(prefix, 'gate', [F, H]), part(prefix, 'up', [F, H])]
  return {
    gateUp: m.matrix('denseFfn', `${prefix}.gate_up_proj`, [2 * F, H], halves),
    down: m.matrix('denseFfn', `${prefix}.down_proj.weight`, [H, F]),
  }
}

/** The matrices of a layer's N FFN experts, each under `prefix`.E. */
export function storedExperts(
  m: ModelBuilder,
  layer: number,
  prefix: string,
  { ffnExperts: N, hiddenSize: H, intermediateSize: F }: ExpertSizes,
): Pick<Moe, 'gateUp' | 'down'> {
  return {
    gateUp: expertMatrix(m, layer, `${prefix}.gate_up_proj`, N, [2 * F, H], e => [
      part(`${prefix}.${e}`, 'gate', [F, H]),
      part(`${prefix}.${e}`, 'up', [F, H]),
    ]),
    down: expertMatrix(m, layer, `${prefix}.down_proj`, N, [H, F], e =>
      part(`${prefix}.${e}`, 'down', [H, F]),
    ),
  }
}

export interface ExpertSizes {
  readonly ffnExperts: number
  readonly hiddenSize: number
  readonly intermediateSize: number
}

/** a_0 y + a_1 c with a = softmax(y W_cᵀ): the rows of W_c, and the vectors c. */
export function storedConstants(m: ModelBuilder, prefix: string, runs: ExpertRuns, H: number) {
  const indices = kindsOf(runs).flatMap((kind, e) => (kind === 'constant' ? [e] : []))
  const C = indices.length
  if (C === 0) return undefined
  const parts = (stored: string, shape: readonly number[]) =>
    indices.map(e => ({ name: `${prefix}.${e}.${stored}`, shape }))
  const small = (name: string, rows: number, stored: string, shape: readonly number[]) =>
    m.small('constantExperts', `${prefix}.${name}`, [rows, H], parts(stored, shape))
  return {
    router: small('constant.wg', 2 * C, 'wg.weight', [2, H]),
    vectors: small('constant.vector', C, 'constant', [H]),
  }
}
