/**
 * Where one stored tensor lies. safetensors and torch `.bin` both reduce to this; the native side maps `file` and
 * reads the bytes, which never enter V8.
 */

/** Element types of stored tensors, and of the weights on a device. */
export type DType = 'f32' | 'bf16' | 'f16'

export interface TensorRef {
  readonly dtype: DType
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
}

export const DTYPE_SIZE: Readonly<Record<DType, number>> = { f32: 4, bf16: 2, f16: 2 }
