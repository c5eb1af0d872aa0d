/** The values of a stored tensor, for small ones that TypeScript computes with. */
import { InputFile } from '../base/input-file.js'
import { elementCount } from './tensor-file.js'
import {
  DTYPE_SIZE,
  FLOAT8_BLOCK,
  type StoredDType,
  scaleShape,
  type TensorRef,
} from './tensor-ref.js'

/**
 * All elements in row-major order. Each stored type fits in a float32.
 *
 * @throws MoeppError ERR_BAD_FILE if the file has become shorter; ERR_NOT_FOUND if it is gone
 */
export async function readTensor(ref: TensorRef): Promise<Float32Array> {
  const stored = await InputFile.with(ref.file, file =>
    file.read(ref.byteOffset, ref.byteLength, 'a tensor'),
  )
  const bytes = new DataView(stored.buffer, stored.byteOffset, stored.byteLength)
  const { shape, dtype } = ref
  const values = new Float32Array(elementCount(shape)!)
  const element = READERS[dtype]
  const strides = ref.strides ?? rowMajor(shape)
  for (let i = 0; i < values.length; i++)
    values[i] = element(bytes, placeOf(i, shape, strides) * DTYPE_SIZE[dtype])
  if (ref.scale) multiplyBlocks(values, shape, await readTensor(ref.scale))
  return values
}

/** Each value of float8 by the scale of its block. */
function multiplyBlocks(
  values: Float32Array,
  shape: readonly number[],
  scales: Float32Array,
): void {
  const [rows = 1, inputs = 1] = shape.slice(-2)
  const [blockRows = 1, blockInputs = 1] = scaleShape(shape).slice(-2)
  for (let i = 0; i < values.length; i++) {
    const row = Math.floor(i / inputs)
    const blockRow = Math.floor(row / rows) * blockRows + Math.floor((row % rows) / FLOAT8_BLOCK)
    values[i]! *= scales[blockRow * blockInputs + Math.floor((i % inputs) / FLOAT8_BLOCK)]!
  }
}

function rowMajor(shape: readonly number[]): number[] {
  const strides = shape.map(() => 1)
  for (let axis = shape.length - 2; axis >= 0; axis--)
    strides[axis] = strides[axis + 1]! * shape[axis + 1]!
  return strides
}

/** In elements, of the i-th in row-major order. */
function placeOf(i: number, shape: readonly number[], strides: readonly number[]): number {
  let place = 0
  let rest = i
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    place += (rest % shape[axis]!) * strides[axis]!
    rest = Math.floor(rest / shape[axis]!)
  }
  return place
}

const word = new DataView(new ArrayBuffer(4))

const READERS: Readonly<Record<StoredDType, (bytes: DataView, at: number) => number>> = {
  f32: (bytes, at) => bytes.getFloat32(at, true),
  f16: (bytes, at) => halfValue(bytes.getUint16(at, true)),
  bf16: (bytes, at) => {
    word.setUint32(0, bytes.getUint16(at, true) << 16)
    return word.getFloat32(0)
  },
  float8: (bytes, at) => float8Value(bytes.getUint8(at)),
}

/** e4m3, which has no infinities. */
function float8Value(bits: number): number {
  if ((bits & 127) === 127) return Number.NaN
  const sign = bits & 128 ? -1 : 1
  const exponent = (bits >> 3) & 15
  const fraction = (bits & 7) / 8
  return sign * (exponent === 0 ? fraction * 2 ** -6 : (1 + fraction) * 2 ** (exponent - 7))
}

/** IEEE 754 binary16. */
function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 31
  const fraction = (bits & 1023) / 1024
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return sign * (exponent === 0 ? fraction * 2 ** -14 : (1 + fraction) * 2 ** (exponent - 15))
}
