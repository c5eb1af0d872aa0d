/** Checkpoints whose matrices are float8, made of others, and their twins in wider types. */
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { readTensor } from '../../lib/tensor/read-tensor.js'

/** As Qwen's FP8 checkpoints have it. */
export const QUANTIZATION_CONFIG = {
  quant_method: 'fp8',
  fmt: 'e4m3',
  activation_scheme: 'dynamic',
  weight_block_size: [128, 128],
  modules_to_not_convert: ['lm_head', 'model.layers.0.mlp.gate'],
}

/** The numbers from 0 up, by their codes; without the NaN. */
export const FLOAT8_VALUES: readonly number[] = Array.from({ length: 127 }, (_, code) =>
  code < 8 ? code * 2 ** -9 : (8 + (code & 7)) * 2 ** ((code >> 3) - 10),
)

/** The code of the nearest number. */
function codeOf(value: number): number {
  const magnitude = Math.abs(value)
  let low = 0
  let high = FLOAT8_VALUES.length - 1
  while (low < high) {
    const middle = (low + high) >> 1
    if ((FLOAT8_VALUES[middle]! + FLOAT8_VALUES[middle + 1]!) / 2 < magnitude) low = middle + 1
    else high = middle
  }
  return value < 0 ? low | 128 : low
}

const word = new DataView(new ArrayBuffer(4))

/** To nearest, ties to even. */
export function bf16Bits(value: number): number {
  word.setFloat32(0, value)
  const bits = word.getUint32(0)
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16
}

function bf16(value: number): number {
  word.setUint32(0, bf16Bits(value) << 16)
  return word.getFloat32(0)
}

export interface Entry {
  readonly dtype: 'F32' | 'BF16' | 'F8_E4M3'
  readonly shape: readonly number[]
  readonly bytes: Buffer
}

export function f32Entry(shape: readonly number[], values: Float32Array): Entry {
  return {
    dtype: 'F32',
    shape,
    bytes: Buffer.from(values.buffer, values.byteOffset, values.byteLength),
  }
}

export function bf16Entry(shape: readonly number[], values: Float32Array): Entry {
  const halves = Uint16Array.from(values, bf16Bits)
  return { dtype: 'BF16', shape, bytes: Buffer.from(halves.buffer) }
}

export interface Float8Matrix {
  readonly codes: Entry
  readonly scales: Entry
  /** code * scale, in f32. */
  readonly values: Float32Array
}

/** A matrix [rows, inputs] in blocks of 128 x 128, with scales of f32 or bf16. */
export function float8Matrix(
  shape: readonly number[],
  values: Float32Array,
  scaleType: 'F32' | 'BF16',
): Float8Matrix {
  const [rows, inputs] = shape as [number, number]
  const columns = Math.ceil(inputs / 128)
  const blockOf = (i: number) =>
    Math.floor(i / inputs / 128) * columns + Math.floor((i % inputs) / 128)
  const scales = new Float32Array(Math.ceil(rows / 128) * columns)
  for (const [i, value] of values.entries())
    scales[blockOf(i)] = Math.max(scales[blockOf(i)]!, Math.abs(value) / 448)
  const entry = scaleType === 'F32' ? f32Entry : bf16Entry
  const held = scaleType === 'F32' ? scales : scales.map(bf16)
  const codes = Buffer.alloc(values.length)
  const products = values.map((value, i) => {
    const scale = held[blockOf(i)]!
    const code = scale === 0 ? 0 : codeOf(value / scale)
    codes[i] = code
    return FLOAT8_VALUES[code & 127]! * (code & 128 ? -scale : scale)
  })
  return {
    codes: { dtype: 'F8_E4M3', shape, bytes: codes },
    scales: entry([Math.ceil(rows / 128), columns], held),
    values: products,
  }
}

/** One file `model.safetensors` beside the other files of `source`. */
export function writeCheckpoint(
  directory: string,
  source: string,
  entries: Readonly<Record<string, Entry>>,
  config: object = {},
): string {
  mkdirSync(directory, { recursive: true })
  for (const name of ['tokenizer.json', 'tokenizer.model', 'tokenizer_config.json']) {
    if (existsSync(join(source, name))) copyFileSync(join(source, name), join(directory, name))
  }
  const known = JSON.parse(readFileSync(join(source, 'config.json'), 'utf8'))
  writeFileSync(join(directory, 'config.json'), JSON.stringify({ ...known, ...config }, null, 2))
  // Wider types first, so that each is aligned.
  const width = { F32: 4, BF16: 2, F8_E4M3: 1 }
  const ordered = Object.entries(entries).sort(([, a], [, b]) => width[b.dtype] - width[a.dtype])
  let end = 0
  const header = Object.fromEntries(
    ordered.map(([name, { dtype, shape, bytes }]) => {
      const begin = end
      end += bytes.length
      return [name, { dtype, shape, data_offsets: [begin, end] }]
    }),
  )
  const text = Buffer.from(JSON.stringify(header))
  const padded = Buffer.alloc(Math.ceil(text.length / 8) * 8, ' ')
  text.copy(padded)
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(padded.length))
  const bytes = ordered.map(([, entry]) => entry.bytes)
  writeFileSync(join(directory, 'model.safetensors'), Buffer.concat([length, padded, ...bytes]))
  return directory
}

/** A checkpoint three times: with float8, and with its products in float32 and in bfloat16. */
export async function float8Twins(source: string, folder: string, scaleType: 'F32' | 'BF16') {
  const { tensors } = await openCheckpoint(source)
  const [float8, float32, bfloat16]: Record<string, Entry>[] = [{}, {}, {}]
  for (const [name, ref] of tensors) {
    const values = await readTensor(ref)
    const isMatrix = ref.shape.length === 2 && /(_proj|_with_mqa|\.w[123])\.weight$/.test(name)
    if (!isMatrix) {
      const entry =
        ref.dtype === 'bf16' ? bf16Entry(ref.shape, values) : f32Entry(ref.shape, values)
      for (const entries of [float8!, float32!, bfloat16!]) entries[name] = entry
      continue
    }
    const matrix = float8Matrix(ref.shape, values, scaleType)
    float8![name] = matrix.codes
    float8![`${name}_scale_inv`] = matrix.scales
    float32![name] = f32Entry(ref.shape, matrix.values)
    bfloat16![name] = bf16Entry(ref.shape, matrix.values)
  }
  const write = (name: string, entries: Record<string, Entry>, config = {}) =>
    writeCheckpoint(join(folder, name), source, entries, config)
  return {
    float8: write('float8', float8!, { quantization_config: QUANTIZATION_CONFIG }),
    float32: write('float32', float32!),
    bfloat16: write('bfloat16', bfloat16!),
  }
}
