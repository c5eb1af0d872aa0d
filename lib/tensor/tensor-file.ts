/**
 * Shared by the readers of both file formats: their result, and arithmetic on sizes that a file
 * claims.
 */

import type { PackedRef, TensorRef } from './tensor-ref.js'

export interface TensorFile {
  readonly tensors: ReadonlyMap<string, TensorRef>
  /** Packed weights, by the weight's name. */
  readonly packed: ReadonlyMap<string, PackedRef>
  /**
   * Tensors of element types that moepp does not compute with: name to stored type (`I64`,
   * `torch.LongStorage`). Old checkpoints carry such buffers; they matter only where the model
   * needs the name.
   */
  readonly unusable: ReadonlyMap<string, string>
}

/** True if `value` is an array of sizes: integers from 0 that a double holds exactly. */
export function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every(isSize)
}

export function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

/**
 * The product of sizes; undefined if it is above 2^53 - 1. A later 0 does not excuse a product that
 * is too large: native code multiplies in the same order.
 */
export function elementCount(shape: readonly number[]): number | undefined {
  let count = 1
  for (const size of shape) {
    count *= size
    if (!Number.isSafeInteger(count)) return undefined
  }
  return count
}

/**
 * Elements from the first to one past the last that shape and strides reach; 0 if the shape is
 * empty. Above 2^53 the sum is not exact, but still larger than any file.
 */
export function reach(shape: readonly number[], strides: readonly number[]): number {
  if (shape.includes(0)) return 0
  return shape.reduce((sum, size, axis) => sum + (size - 1) * strides[axis]!, 1)
}

/**
 * True if the strides are those of a row-major tensor without gaps. Strides of axes of size 1 do
 * not matter.
 */
export function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== expected) return false
    expected *= shape[axis]!
  }
  return true
}
