/** Some entries of a stack of tensors, in place. */
import { DTYPE_SIZE, isPacked, type PackedRef, type TensorRef } from './tensor-ref.js'

/**
 * The entries `taken` of the first axis, ascending: one reference for each run of neighbours.
 * Default: all of it.
 */
export function stackParts<Ref extends TensorRef | PackedRef>(
  ref: Ref,
  taken?: readonly number[],
): Ref[] {
  if (!taken) return [ref]
  return runsOf(taken).map(([first, count]) => entries(ref, first, count) as Ref)
}

/** [first, count] of each run of neighbours. */
function runsOf(numbers: readonly number[]): [number, number][] {
  const runs: [number, number][] = []
  for (const number of numbers) {
    const last = runs.at(-1)
    if (last && last[0] + last[1] === number) last[1]++
    else runs.push([number, 1])
  }
  return runs
}

/** Whole entries, so that their blocks and scales are whole, too. */
function entries(ref: TensorRef | PackedRef, first: number, count: number): TensorRef | PackedRef {
  const [all = 1, ...rest] = ref.shape
  const step = isPacked(ref) ? ref.byteLength / all : stepOf(ref)
  return {
    ...ref,
    shape: [count, ...rest],
    byteOffset: ref.byteOffset + first * step,
    byteLength: ref.byteLength - (all - count) * step,
    ...(!isPacked(ref) &&
      ref.scale && {
        scale: { name: ref.scale.name, ...(entries(ref.scale, first, count) as TensorRef) },
      }),
  }
}

/** Bytes from an entry to the next. */
function stepOf({ dtype, shape, strides }: TensorRef): number {
  const elements = strides?.[0] ?? shape.slice(1).reduce((a, b) => a * b, 1)
  return elements * DTYPE_SIZE[dtype]
}
