/** Rows of each head of a stored matrix, in place. */
import { DTYPE_SIZE, type TensorRef } from './tensor-ref.js'

/** `count` rows of each of `heads` heads, from `first` on. */
export interface HeadRows {
  readonly heads: number
  readonly first: number
  readonly count: number
  /** Each head's matrix is transposed. */
  readonly transposed?: boolean
}

/**
 * Of [heads * R, columns] the rows: [heads, count, columns]; or transposed, [heads, columns,
 * count].
 */
export function headRows(ref: TensorRef, { heads, first, count, transposed }: HeadRows): TensorRef {
  const [all, columns] = ref.shape as [number, number]
  const [row, column] = (ref.strides ?? [columns, 1]) as [number, number]
  const size = DTYPE_SIZE[ref.dtype]
  const head = (all / heads) * row
  const last = (heads - 1) * head + (count - 1) * row + (columns - 1) * column
  return {
    ...ref,
    shape: transposed ? [heads, columns, count] : [heads, count, columns],
    strides: transposed ? [head, column, row] : [head, row, column],
    byteOffset: ref.byteOffset + first * row * size,
    byteLength: (last + 1) * size,
  }
}
