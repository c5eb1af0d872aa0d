/** Records the model of a checkpoint. */
import type { MatrixDType } from '../program/model-builder.js'
import { ModelBuilder, type ModelTensors } from '../program/model-builder.js'
import type { ModelSpec } from '../program/model-spec.js'
import type { ModelDescription } from './family.js'

/**
 * The model on its stored tensors, with its matrices held as `dtype`. A checkpoint lacks nothing
 * that this returns for.
 *
 * @param mayRoundX inputs of matrices in bf16 may be rounded to bf16
 * @throws MoeppError ERR_BAD_WEIGHTS for the first tensor that is missing, of another shape or of an
 *   element type that moepp does not compute with; ERR_UNSUPPORTED for packed weights of another
 *   type
 */
export function recordModel(
  description: ModelDescription,
  tensors: ModelTensors,
  dtype: MatrixDType,
  mayRoundX = false,
): ModelSpec {
  const m = new ModelBuilder(tensors, dtype, mayRoundX)
  description.record(m)
  return m.model()
}
