/** The weights of a recorded program: which stored tensors make up each, and in what type the device holds it. */
import type { TensorRef } from '../checkpoint/tensor-ref.js'
import { MoeppError } from '../errors.js'
import type { ProgramBuilder, Weight } from '../program/builder.js'

export type WeightDType = 'f32' | 'bf16'
/** 'exact': bf16 for each matrix that is stored in bf16, f32, in which f16 is exact too, for all others. */
export type MatrixDType = WeightDType | 'exact'

export class ModelWeights {
  readonly #builder: ProgramBuilder
  readonly #tensors: ReadonlyMap<string, TensorRef>
  readonly #dtype: MatrixDType
  readonly #known = new Map<string, Weight>()

  /** @param dtype of the large matrices; the small tensors stay f32, as upstream computes them. */
  constructor(builder: ProgramBuilder, tensors: ReadonlyMap<string, TensorRef>, dtype: MatrixDType) {
    this.#builder = builder
    this.#tensors = tensors
    this.#dtype = dtype
  }

  /** A large matrix in the model's dtype; several stored tensors are set one below the other. */
  matrix(name: string, shape: readonly number[], stored: readonly string[] = [name]): Weight {
    if (this.#dtype !== 'exact') return this.#declare(name, this.#dtype, shape, stored)
    const isBf16 = stored.every(part => this.#tensors.get(part)?.dtype === 'bf16')
    return this.#declare(name, isBf16 ? 'bf16' : 'f32', shape, stored)
  }

  /** A small tensor (norms, router, constants) in f32. */
  small(name: string, shape: readonly number[], stored: readonly string[] = [name]): Weight {
    return this.#declare(name, 'f32', shape, stored)
  }

  #declare(name: string, dtype: WeightDType, shape: readonly number[], stored: readonly string[]): Weight {
    const known = this.#known.get(name)
    if (known) return known
    const parts = stored.map(part => {
      const tensor = this.#tensors.get(part)
      if (!tensor) throw new MoeppError('ERR_BAD_WEIGHTS', `the checkpoint has no tensor ${part}`)
      return { name: part, ...tensor }
    })
    const weight = this.#builder.weight({ name, dtype, shape, parts })
    this.#known.set(name, weight)
    return weight
  }
}
