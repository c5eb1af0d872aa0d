import type { Checkpoint } from '../../lib/checkpoint/checkpoint.js'
import type { ModelDescription } from '../../lib/families/family.js'
import { storedTensors } from '../../lib/families/record.js'
import type { TensorRef } from '../../lib/tensor/tensor-ref.js'

/** A checkpoint that exists only as references: it has what the model needs. */
export function listedCheckpoint(
  description: ModelDescription,
  dtype: TensorRef['dtype'] = 'f32',
): Checkpoint & { readonly tensors: Map<string, TensorRef> } {
  const place = { dtype, file: '/model.safetensors', byteOffset: 0, byteLength: 0 }
  return {
    directory: '/',
    format: 'safetensors',
    files: [],
    tensors: new Map(
      storedTensors(description).map(({ name, shape }) => [name, { ...place, shape }]),
    ),
    packed: new Map(),
    unusable: new Map(),
  }
}
