/**
 * The weights of a recorded program: which stored tensors make up each, and in what type the device
 * holds it.
 */
import type { WeightSpec } from '../addon/binding.js'
import { show } from '../base/json.js'
import { MoeppError } from '../errors.js'
import type { ProgramBuilder, Weight } from '../program/builder.js'
import { isPacked, type PackedRef, type StoredRef } from '../tensor/tensor-ref.js'

type HeldDType = 'f32' | 'bf16' | 'int8' | 'int4'
/**
 * Types of the matrices on a device. 'exact' keeps bf16 and packed matrices as stored; all others
 * become f32, which is lossless (f16 included). 'int4' is for the FFN experts, with int8 for
 * attention and head.
 */
export type MatrixDType = HeldDType | 'exact'

export class ModelWeights {
  readonly #builder: ProgramBuilder
  readonly #tensors: ReadonlyMap<string, StoredRef>
  readonly #dtype: MatrixDType
  readonly #known = new Map<string, Weight>()

  /**
   * @param dtype of the matrices; the small tensors stay f32, as upstream computes them
   */
  constructor(
    builder: ProgramBuilder,
    tensors: ReadonlyMap<string, StoredRef>,
    dtype: MatrixDType,
  ) {
    this.#builder = builder
    this.#tensors = tensors
    this.#dtype = dtype
  }

  /** A matrix of attention, or the head; several stored tensors are set one below the other. */
  matrix(name: string, shape: readonly number[], stored: readonly string[] = [name]): Weight {
    return this.#matrix(name, this.#dtype === 'int4' ? 'int8' : this.#dtype, shape, stored)
  }

  /** One matrix of all FFN experts. */
  experts(name: string, shape: readonly number[], stored: readonly string[]): Weight {
    return this.#matrix(name, this.#dtype, shape, stored)
  }

  /**
   * The embedding, where the head does not share it: a token reads one row, so that fewer bits
   * would save memory alone.
   */
  table(name: string, shape: readonly number[]): Weight {
    const dtype =
      this.#dtype === 'f32' || this.#dtype === 'bf16' ? this.#dtype : this.#exact([name])
    return this.#fromTensors(name, dtype, shape, [name])
  }

  /** A small tensor (norms, router, constants) in f32. */
  small(name: string, shape: readonly number[], stored: readonly string[] = [name]): Weight {
    return this.#fromTensors(name, 'f32', shape, stored)
  }

  #exact(stored: readonly string[]): 'f32' | 'bf16' {
    return stored.every(part => this.#tensors.get(part)?.dtype === 'bf16') ? 'bf16' : 'f32'
  }

  #matrix(
    name: string,
    dtype: MatrixDType,
    shape: readonly number[],
    stored: readonly string[],
  ): Weight {
    const packed = this.#tensors.get(name)
    if (packed && isPacked(packed)) return this.#fromPacked(name, dtype, shape, packed)
    return this.#fromTensors(name, dtype === 'exact' ? this.#exact(stored) : dtype, shape, stored)
  }

  #fromPacked(
    name: string,
    dtype: MatrixDType,
    shape: readonly number[],
    packed: PackedRef,
  ): Weight {
    if (
      packed.shape.length !== shape.length ||
      packed.shape.some((size, axis) => size !== shape[axis])
    ) {
      throw new MoeppError(
        'ERR_BAD_WEIGHTS',
        `${name}: weight is ${show(packed.shape)} ${packed.dtype}, expected ${show(shape)} (${packed.file})`,
      )
    }
    if (dtype !== 'exact' && dtype !== packed.dtype) {
      throw new MoeppError(
        'ERR_UNSUPPORTED',
        `${name}: is stored as ${packed.dtype} and cannot be held as ${dtype} (${packed.file}); use dtype 'auto', or the ` +
          'checkpoint that this one was converted from',
      )
    }
    return this.#declare(name, () => ({
      name,
      dtype: packed.dtype,
      shape,
      parts: [{ name, ...packed }],
    }))
  }

  #fromTensors(
    name: string,
    dtype: HeldDType,
    shape: readonly number[],
    stored: readonly string[],
  ): Weight {
    return this.#declare(name, () => {
      const parts = stored.map(part => {
        const tensor = this.#tensors.get(part)
        if (!tensor) throw new MoeppError('ERR_BAD_WEIGHTS', `the checkpoint has no tensor ${part}`)
        if (isPacked(tensor)) {
          const message = `${part}: is packed as ${tensor.dtype}, expected float32, float16 or bfloat16 (${tensor.file})`
          throw new MoeppError('ERR_BAD_WEIGHTS', message)
        }
        return { name: part, ...tensor }
      })
      return { name, dtype, shape, parts }
    })
  }

  #declare(name: string, specOf: () => WeightSpec): Weight {
    const known = this.#known.get(name)
    if (known) return known
    const spec = specOf()
    const weight = this.#builder.weight(spec)
    this.#known.set(name, weight)
    return weight
  }
}
