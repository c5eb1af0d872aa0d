/**
 * The place of one stored tensor. safetensors and torch `.bin` both reduce to this. The native side
 * maps `file` and reads the bytes, which never enter V8.
 */

/**
 * Element types of stored tensors, and of the weights on a device.
 *
 * @example
 * ```ts
 * import { type DType, loadModel } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const stored: DType | null = model.config.torchDtype
 * console.log(stored)
 * ```
 */
export type DType = 'f32' | 'bf16' | 'f16'

/**
 * Types of stored tensors. 'float8' is e4m3, with a scale for each block of 128 x 128 beside it:
 * native/weights/float8.h.
 */
export type StoredDType = DType | 'float8'

/**
 * The quantised form of a matrix: integers, and scales for blocks of each row.
 * native/weights/quantise.h has the numbers.
 */
export type QuantisedDType = 'int8' | 'int4'
export type WeightDType = StoredDType | QuantisedDType

export interface TensorRef {
  readonly dtype: StoredDType
  /** Sizes, outermost first; [] is a scalar. */
  readonly shape: readonly number[]
  /** In elements. Absent: row-major and contiguous. Torch files hold transposed views. */
  readonly strides?: readonly number[]
  /** Absolute path. */
  readonly file: string
  /** First byte of element [0, ..., 0] in the file. */
  readonly byteOffset: number
  /** Bytes from byteOffset to one past the last element that the shape and strides reach. */
  readonly byteLength: number
  /** Of recorded float8 [..., N, K]: [..., ceil(N / 128), ceil(K / 128)]. */
  readonly scale?: NamedRef
}

/** A stored tensor with its name in the checkpoint. */
export type NamedRef = TensorRef & { readonly name: string }

/**
 * The order of a matrix in memory: `gateUp` sets gate rows beside the up rows of the same columns.
 */
export type MatrixLayout = 'matrix' | 'gateUp'

/**
 * The place of one packed weight: a whole matrix, or all experts' matrices, in the order of the
 * CPU's kernels (packed.ts).
 */
export interface PackedRef {
  readonly dtype: QuantisedDType
  /** Of the weight: [rows, inputs], or [experts, rows, inputs]. */
  readonly shape: readonly number[]
  readonly packed: MatrixLayout
  /** Absolute path. */
  readonly file: string
  /** A multiple of 64. */
  readonly byteOffset: number
  readonly byteLength: number
}

export type StoredRef = TensorRef | PackedRef

/** `count` rows of each of `heads` heads of a matrix, from `first` on. */
export interface HeadRows {
  readonly heads: number
  readonly first: number
  readonly count: number
  /** Each head's matrix is transposed. */
  readonly transposed?: boolean
}

/** A stored tensor; with `rows`, [heads, count, K] of it, or [heads, K, count]. */
export type WeightPart = StoredRef & { readonly name: string; readonly rows?: HeadRows }

export function isPacked(ref: StoredRef): ref is PackedRef {
  return 'packed' in ref
}

export function isQuantised(dtype: WeightDType): dtype is QuantisedDType {
  return dtype === 'int8' || dtype === 'int4'
}

export const DTYPE_SIZE: Readonly<Record<StoredDType, number>> = {
  f32: 4,
  bf16: 2,
  f16: 2,
  float8: 1,
}

/** Rows, and inputs, of a block of float8 that has one scale. */
export const FLOAT8_BLOCK = 128

/** The shape of the scales of a float8 matrix, or of a stack of them. */
export function scaleShape(shape: readonly number[]): number[] {
  return shape.map((size, axis) =>
    axis < shape.length - 2 ? size : Math.ceil(size / FLOAT8_BLOCK),
  )
}

/**
 * Of a row: one scale, and in int4 its multipliers, stand for so many consecutive values; the last
 * block is padded.
 */
const QUANTISED_BLOCK = 128
/**
 * Bytes of one block of one row: its values, its scale (bf16, of float8 f32), in int4 four
 * multipliers of 4 bits.
 */
const BLOCK_BYTES = { int8: 128 + 2, int4: 64 + 2 + 2, float8: 128 + 4 } as const

const hasBlocks = (dtype: WeightDType): dtype is keyof typeof BLOCK_BYTES => dtype in BLOCK_BYTES

/** Bytes of a number of rows with `inputs` values each, scales included. */
export function rowsBytes(dtype: WeightDType, rows: number, inputs: number): number {
  return hasBlocks(dtype)
    ? rows * Math.ceil(inputs / QUANTISED_BLOCK) * BLOCK_BYTES[dtype]
    : rows * inputs * DTYPE_SIZE[dtype]
}

/** Bytes of a weight on a device, without its padding. */
export function weightSize({
  dtype,
  shape,
}: {
  readonly dtype: WeightDType
  readonly shape: readonly number[]
}): number {
  const inputs = shape.at(-1) ?? 1
  const rows = shape.slice(0, -1).reduce((a, b) => a * b, 1)
  return rowsBytes(dtype, rows, inputs)
}
