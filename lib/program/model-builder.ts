/**
 * Records a whole model on a checkpoint: which stored tensors make up each weight, and in what type
 * the device holds it. A tensor that is missing, or has another shape, ends the recording. So a
 * recorded model is a checked checkpoint.
 */
import { show } from '../base/json.js'
import type { Checkpoint } from '../checkpoint/checkpoint.js'
import { MoeppError } from '../errors.js'
import { stackParts } from '../tensor/stack.js'
import {
  type HeadRows,
  type NamedRef,
  type PackedRef,
  scaleShape,
  type TensorRef,
} from '../tensor/tensor-ref.js'
import { type Buffer, ProgramBuilder, type Weight } from './builder.js'
import type { CacheShape, ModelSpec, ParameterKind, RecordedWeight } from './model-spec.js'
import type { RankExperts } from './moe-ops.js'
import type { Placement } from './placement.js'

type HeldDType = 'f32' | 'bf16' | 'int8' | 'int4'
/**
 * 'exact' keeps bf16 and packed matrices as stored. float8 becomes bf16, with an error of 2^-9 at
 * most; all others become f32, which is lossless.
 */
type WeightHold = HeldDType | 'exact'
/**
 * Types of the matrices on a device. 'int4' is for FFN, with int8 for attention and head;
 * 'int4-all' is for all three.
 */
export type MatrixDType = WeightHold | 'int4-all'

/** A stored tensor that is part of a weight. */
export interface Part {
  readonly name: string
  readonly shape: readonly number[]
  /** Of a stack: the entries of its first axis that are taken. Default: all. */
  readonly taken?: readonly number[] | undefined
  /** Of a matrix: the rows of each head that are taken. Default: it is taken as it is. */
  readonly rows?: HeadRows
}

/** The stored tensors that a model is recorded on. */
export interface ModelTensors {
  /** A packed weight; undefined if the weight is stored in parts. */
  packed(name: string): PackedRef | undefined
  /** @throws MoeppError ERR_BAD_WEIGHTS if it is missing or has another shape */
  tensor(part: Part): TensorRef
  /** A tensor that the model does not need. */
  optional(name: string): TensorRef | undefined
}

/** Behind the name of a weight: the name of its scales. */
const SCALE_SUFFIX = '_scale_inv'

/** Those of a checkpoint. */
export class CheckpointTensors implements ModelTensors {
  readonly #checkpoint: Checkpoint
  readonly #isFloat8: boolean

  /** @param isFloat8 config.json says that matrices are float8, in blocks of 128 x 128 */
  constructor(checkpoint: Checkpoint, isFloat8: boolean) {
    this.#checkpoint = checkpoint
    this.#isFloat8 = isFloat8
  }

  packed(name: string): PackedRef | undefined {
    return this.#checkpoint.packed.get(name)
  }

  tensor({ name, shape }: Part): TensorRef {
    const tensor = this.#checkpoint.tensors.get(name)
    if (tensor === undefined) throw this.#missing(name)
    checkShape(name, tensor, shape)
    return this.#withScale(name, tensor)
  }

  optional(name: string): TensorRef | undefined {
    const tensor = this.#checkpoint.tensors.get(name)
    return tensor && this.#withScale(name, tensor)
  }

  #withScale(name: string, tensor: TensorRef): TensorRef {
    const scale = this.#scaleOf(name)
    const bad = (message: string) =>
      new MoeppError('ERR_BAD_WEIGHTS', `${name}: ${message} (${tensor.file})`)
    if (tensor.dtype !== 'float8') {
      if (scale === undefined) return tensor
      throw bad(`is ${tensor.dtype}, but ${scale.name} is stored, which only float8 has`)
    }
    if (tensor.shape.length < 2) throw bad(`is ${show(tensor.shape)} float8, expected a matrix`)
    if (!this.#isFloat8) {
      throw bad('is float8, but config.json has no quantization_config that tells its blocks')
    }
    if (scale === undefined) throw bad(`is float8, but ${name}${SCALE_SUFFIX} is missing`)
    checkShape(scale.name, scale, scaleShape(tensor.shape))
    if (scale.dtype === 'f32' || scale.dtype === 'bf16') return { ...tensor, scale }
    throw bad(`${scale.name} is ${scale.dtype}, expected float32 or bfloat16`)
  }

  #scaleOf(weight: string): NamedRef | undefined {
    const name = weight + SCALE_SUFFIX
    const scale = this.#checkpoint.tensors.get(name)
    return scale && { name, ...scale }
  }

  #missing(name: string): MoeppError {
    const { directory, packed, unusable } = this.#checkpoint
    const stored = unusable.get(name) ?? packed.get(name)?.dtype
    if (stored === undefined)
      return new MoeppError('ERR_BAD_WEIGHTS', `${name}: missing in ${directory}`)
    return new MoeppError(
      'ERR_BAD_WEIGHTS',
      `${name}: weight is of type ${stored}, expected float32, float16, bfloat16 or float8 (${directory})`,
    )
  }
}

export class ModelBuilder extends ProgramBuilder {
  readonly #tensors: ModelTensors
  readonly #dtype: MatrixDType
  readonly #weights = new Map<string, { weight: Weight; spec: RecordedWeight }>()
  readonly #unread: ModelSpec['unread'][number][] = []
  readonly #lookups: ModelSpec['lookups'][number][] = []
  readonly #captures: string[] = []
  readonly #placement: Placement | undefined
  #cache: CacheShape | undefined

  /**
   * @param dtype of the matrices; the small tensors stay f32, as upstream computes them
   * @param placement of a group's rank, which records its own FFN experts alone
   */
  constructor(tensors: ModelTensors, dtype: MatrixDType, placement?: Placement) {
    super()
    this.#tensors = tensors
    this.#dtype = dtype
    this.#placement = placement
  }

  /** This rank's part of a layer's FFN experts; undefined without a group. */
  share(layer: number, experts: number): RankExperts | undefined {
    return this.#placement?.share(layer, experts)
  }

  /**
   * A matrix, or one of each expert, in the type that `kind` has on the device. Several stored
   * tensors are set one below the other.
   * @param taken of a stack [N, ...]: the entries that the weight has; `parts` hold those alone
   */
  matrix(
    kind: ParameterKind,
    name: string,
    shape: readonly number[],
    parts: readonly Part[] = [{ name, shape }],
    taken?: readonly number[],
  ): Weight {
    const packed = this.#tensors.packed(name)
    const dtype = this.#holdOf(kind)
    if (packed) return this.#fromPacked(kind, name, dtype, shape, packed, taken)
    const held = taken ? [taken.length, ...shape.slice(1)] : shape
    return this.#fromTensors(kind, name, dtype, held, parts)
  }

  /**
   * The embedding, where the head does not share it: a token reads one row, so that fewer bits
   * would save memory alone.
   */
  table(name: string, shape: readonly number[]): Weight {
    const dtype = this.#dtype === 'f32' || this.#dtype === 'bf16' ? this.#dtype : 'exact'
    return this.#fromTensors('embedding', name, dtype, shape, [{ name, shape }])
  }

  /**
   * Rows of a table that stays in the checkpoint's files, side by side: [T, N * width].
   * @param rows [T, N]: rows of the parts, one below the other
   * @param parts stored tensors [any, width]
   */
  lookup(
    kind: ParameterKind,
    name: string,
    { rows, width, parts }: { rows: Buffer; width: number; parts: readonly Part[] },
  ): Buffer {
    const shape = [parts.reduce((sum, part) => sum + part.shape[0]!, 0), width]
    const table = this.#specOf(kind, name, 'exact', shape, parts)
    const out = this.lookedUp(name, { rows, table })
    this.#lookups.push({ label: name, table, rows: rows.name, out: out.name })
    return out
  }

  /** A small tensor in f32: of a norm, a router, a bias, constants. */
  small(
    kind: ParameterKind,
    name: string,
    shape: readonly number[],
    parts: readonly Part[] = [{ name, shape }],
  ): Weight {
    return this.#fromTensors(kind, name, 'f32', shape, parts)
  }

  /** True if there is a stored tensor of this name, for weights that are stored in several ways. */
  isStored(name: string): boolean {
    return this.#tensors.optional(name) !== undefined
  }

  /** A tensor that checkpoints of the family hold as part of the model, and that nothing reads. */
  unread(kind: ParameterKind, name: string): void {
    const ref = this.#tensors.optional(name)
    if (ref) this.#unread.push({ name, kind, ref })
  }

  /** The next layer of the KV cache; all have the same shape. */
  cacheLayer(shape: Omit<CacheShape, 'layers'>): number {
    const layer = this.#cache?.layers ?? 0
    this.#cache = { ...shape, layers: layer + 1 }
    return layer
  }

  /** A buffer that `forward` can return, by its name. */
  capture<B extends Buffer>(buffer: B): B {
    this.#captures.push(buffer.name)
    return buffer
  }

  /** The recorded model. */
  model(): ModelSpec {
    if (!this.#cache) throw new Error('a model without attention')
    return {
      // Each step captures what its sequences want of the logits.
      ...this.finish([]),
      weights: [...this.#weights.values()].map(({ spec }) => spec),
      lookups: this.#lookups,
      unread: this.#unread,
      captures: this.#captures,
      cache: this.#cache,
    }
  }

  #holdOf(kind: ParameterKind): WeightHold {
    if (this.#dtype === 'int4-all') return 'int4'
    const isFfn = kind === 'ffnExperts' || kind === 'denseFfn'
    return this.#dtype === 'int4' && !isFfn ? 'int8' : this.#dtype
  }

  #fromPacked(
    kind: ParameterKind,
    name: string,
    dtype: WeightHold,
    shape: readonly number[],
    packed: PackedRef,
    taken?: readonly number[],
  ): Weight {
    checkShape(name, packed, shape)
    if (dtype !== 'exact' && dtype !== packed.dtype) {
      throw new MoeppError(
        'ERR_UNSUPPORTED',
        `${name}: is stored as ${packed.dtype} and cannot be held as ${dtype} (${packed.file}); use dtype 'auto', or the ` +
          'checkpoint that this one was converted from',
      )
    }
    return this.#declare(name, () => ({
      kind,
      name,
      dtype: packed.dtype,
      shape: taken ? [taken.length, ...shape.slice(1)] : shape,
      parts: stackParts(packed, taken).map(part => ({ name, ...part })),
    }))
  }

  #fromTensors(
    kind: ParameterKind,
    name: string,
    dtype: WeightHold,
    shape: readonly number[],
    stored: readonly Part[],
  ): Weight {
    return this.#declare(name, () => this.#specOf(kind, name, dtype, shape, stored))
  }

  #specOf(
    kind: ParameterKind,
    name: string,
    dtype: WeightHold,
    shape: readonly number[],
    stored: readonly Part[],
  ): RecordedWeight {
    const parts = stored.flatMap(part => this.#partsOf(part))
    const isBf16 = parts.every(({ dtype }) => dtype === 'bf16' || dtype === 'float8')
    const held = dtype === 'exact' ? (isBf16 ? 'bf16' : 'f32') : dtype
    return { kind, name, dtype: held, shape, parts }
  }

  #partsOf(part: Part): RecordedWeight['parts'][number][] {
    const { name, taken, rows } = part
    const ref = this.#tensors.tensor(part)
    return stackParts(ref, taken).map(entry => ({ name, ...entry, ...(rows && { rows }) }))
  }

  #declare(name: string, specOf: () => RecordedWeight): Weight {
    const known = this.#weights.get(name)
    if (known) return known.weight
    const spec = specOf()
    const weight = this.weight(spec)
    this.#weights.set(name, { weight, spec })
    return weight
  }
}

function checkShape(
  name: string,
  { shape, dtype, file }: TensorRef | PackedRef,
  expected: readonly number[],
): void {
  if (shape.length === expected.length && shape.every((size, axis) => size === expected[axis]))
    return
  throw new MoeppError(
    'ERR_BAD_WEIGHTS',
    `${name}: weight is ${show(shape)} ${dtype}, expected ${show(expected)} (${file})`,
  )
}
