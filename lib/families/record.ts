/** Records the model of a checkpoint. */
import type { Checkpoint } from '../checkpoint/checkpoint.js'
import {
  CheckpointTensors,
  type MatrixDType,
  ModelBuilder,
  type ModelTensors,
  type Part,
} from '../program/model-builder.js'
import { type ModelSpec, type ParameterKind, parametersOf } from '../program/model-spec.js'
import type { Placement } from '../program/placement.js'
import type { ModelDescription } from './family.js'

/**
 * The model on its stored tensors, with its matrices held as `dtype`. A checkpoint lacks nothing
 * that this returns for.
 *
 * @param placement of a group's rank: the model with its own FFN experts alone
 * @throws MoeppError ERR_BAD_WEIGHTS for the first tensor that is missing or not as expected;
 *   ERR_UNSUPPORTED for packed weights of another type
 */
export function recordModel(
  description: ModelDescription,
  checkpoint: Checkpoint,
  dtype: MatrixDType,
  placement?: Placement,
): ModelSpec {
  return record(
    description,
    new CheckpointTensors(checkpoint, description.isFloat8 ?? false),
    dtype,
    placement,
  )
}

export interface StoredTensor extends Part {
  readonly kind: ParameterKind
}

/** The model on tensors that are nowhere: its ops, and the tensors that it reads. */
export function recordShapes(description: ModelDescription): ModelSpec {
  const place = { dtype: 'f32', file: '', byteOffset: 0, byteLength: 0 } as const
  const listing: ModelTensors = {
    packed: () => undefined,
    optional: () => undefined,
    tensor: ({ shape }) => ({ ...place, shape }),
  }
  return record(description, listing, 'exact')
}

/** The tensors that the model reads, in the order of the forward pass. */
export function storedTensors(description: ModelDescription): StoredTensor[] {
  const parameters = parametersOf(recordShapes(description))
  return [...parameters].map(([name, { kind, ref }]) => ({ name, kind, shape: ref.shape }))
}

function record(
  description: ModelDescription,
  tensors: ModelTensors,
  dtype: MatrixDType,
  placement?: Placement,
): ModelSpec {
  const m = new ModelBuilder(tensors, dtype, placement)
  description.record(m)
  return m.model()
}
