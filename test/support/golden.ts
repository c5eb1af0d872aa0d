/** Golden data of the PyTorch reference model, and the comparison with it. */
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readSafetensors } from '../../lib/checkpoint/safetensors.js'
import type { TensorRef } from '../../lib/tensor/tensor-ref.js'

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')
export const golden = join(root, 'test', 'golden')

export function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, 'utf8')) as T
}

/** A tensor's values, as numbers of any stored type. */
export interface Values {
  readonly shape: readonly number[]
  readonly data: Float32Array | Int32Array
}

const bits = new DataView(new ArrayBuffer(4))

function fromBf16(half: number): number {
  bits.setUint32(0, half << 16)
  return bits.getFloat32(0)
}

/** The values of one stored tensor; safetensors files hold every tensor contiguous. */
export function readValues(ref: {
  file: string
  dtype: string
  shape: readonly number[]
  byteOffset: number
}): Values {
  const count = ref.shape.reduce((a, b) => a * b, 1)
  const file = readFileSync(ref.file)
  const view = new DataView(file.buffer, file.byteOffset + ref.byteOffset)
  if (ref.dtype === 'i32') {
    return {
      shape: ref.shape,
      data: Int32Array.from({ length: count }, (_, i) => view.getInt32(4 * i, true)),
    }
  }
  const read =
    ref.dtype === 'f32'
      ? (i: number) => view.getFloat32(4 * i, true)
      : (i: number) => fromBf16(view.getUint16(2 * i, true))
  return { shape: ref.shape, data: Float32Array.from({ length: count }, (_, i) => read(i)) }
}

/** All tensors of a golden safetensors file: values by name, and references for weights. */
export async function readGolden(path: string) {
  const { tensors } = await readSafetensors(path)
  const header = readFileSync(path)
  const length = Number(header.readBigUInt64LE(0))
  const entries = JSON.parse(header.toString('utf8', 8, 8 + length)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >
  const types: Record<string, string> = { F32: 'f32', BF16: 'bf16', F16: 'f16', I32: 'i32' }
  const values = (name: string): Values => {
    const entry = entries[name]
    if (!entry) throw new Error(`${path} has no tensor ${name}`)
    return readValues({
      file: path,
      dtype: types[entry.dtype]!,
      shape: entry.shape,
      byteOffset: 8 + length + entry.data_offsets[0],
    })
  }
  return {
    values,
    has: (name: string) => name in entries,
    tensors: tensors as ReadonlyMap<string, TensorRef>,
  }
}

export interface Tolerance {
  readonly atol: number
  readonly rtol: number
}

/**
 * The worst value by |got - want| - (atol + rtol |want|), in words when it is above 0, else ''. NaN
 * equals NaN alone.
 */
export function difference(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  { atol, rtol }: Tolerance,
): string {
  if (got.length !== want.length) return `${got.length} values, expected ${want.length}`
  let worst = 0
  let at = -1
  for (let i = 0; i < got.length; i++) {
    if (Number.isNaN(got[i]) && Number.isNaN(want[i])) continue
    const excess = Math.abs(got[i]! - want[i]!) - (atol + rtol * Math.abs(want[i]!))
    if (!(excess <= worst)) {
      worst = excess
      at = i
    }
  }
  return at < 0 ? '' : `[${at}] is ${got[at]}, expected ${want[at]}`
}

/**
 * Pairs of (index, weight) in ascending order of the index: the order of close picks is not
 * promised.
 */
export function sortedPicks(indices: ArrayLike<number>, weights: ArrayLike<number>) {
  const ids: number[] = []
  const shares: number[] = []
  for (let i = 0; i < indices.length; i += 2) {
    const swap = indices[i]! > indices[i + 1]!
    ids.push(indices[swap ? i + 1 : i]!, indices[swap ? i : i + 1]!)
    shares.push(weights[swap ? i + 1 : i]!, weights[swap ? i : i + 1]!)
  }
  return { ids, shares }
}
