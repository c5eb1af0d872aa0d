/** Files of small random checkpoints, whose weights keep activations and routing lively. */
import { pickleBytes, pickled, safetensorsBytes, torchZip } from '../checkpoint/files.js'
import type { Decoder, Matrix, Precision, Weights } from './decoder-f64.js'

/** Numbers that a seed decides. */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995
  }

  /** From 0 up to 1. */
  unit(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let x = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61)
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32
  }

  /** An integer, both ends included. */
  integer(from: number, to: number): number {
    return from + Math.floor(this.unit() * (to - from + 1))
  }

  chance(probability: number): boolean {
    return this.unit() < probability
  }

  pick<T>(items: readonly T[]): T {
    return items[this.integer(0, items.length - 1)]!
  }

  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.unit())) * Math.cos(2 * Math.PI * this.unit())
  }

  ids(length: number, vocab: number): number[] {
    return Array.from({ length }, () => this.integer(0, vocab - 1))
  }

  shuffled<T>(items: readonly T[]): T[] {
    const list = [...items]
    for (let i = list.length - 1; i > 0; i--) {
      const j = this.integer(0, i)
      ;[list[i], list[j]] = [list[j]!, list[i]!]
    }
    return list
  }
}

export type StoredType = 'f32' | 'f16' | 'bf16'
export type Storage = StoredType | 'mixed'
export type Format = 'safetensors' | 'safetensors-sharded' | 'bin' | 'bin-sharded'

export interface RandomCheckpoint {
  /** As in config.json. */
  readonly config: Readonly<Record<string, unknown>>
  readonly vocab: number
  /** The layers that have experts. */
  readonly moeLayers: readonly number[]
  /** The model's: as they are stored, or parts of them that it has as weights. */
  readonly tensors: readonly Matrix[]
  /** The reference of one text. */
  readonly sequence: (weights: Weights, precision: Precision) => Decoder
  readonly files: Record<string, Buffer | string>
  /** In a few words. */
  readonly description: string
}

/** A tensor of a checkpoint, as it is stored. */
export interface Stored extends Matrix {
  /** f64 and i64 are only for tensors that are ignored. */
  readonly type: StoredType | 'f64' | 'i64'
  readonly bytes: Buffer
}

/** Adds a tensor of a normal distribution: mean and deviation. */
export type AddTensor = (
  name: string,
  shape: readonly number[],
  scale: number,
  mean?: number,
) => void

/** Draws the tensors that `list` asks for. 1 value in 30 is tiny, for the sake of subnormals. */
export function drawTensors(
  random: Random,
  storage: Storage,
  list: (add: AddTensor) => void,
): Stored[] {
  const tensors: Stored[] = []
  list((name, shape, scale, mean = 0) => {
    const type = storage === 'mixed' ? random.pick(['f32', 'f16', 'bf16'] as const) : storage
    const draw = () => (mean + scale * random.normal()) * (random.chance(1 / 30) ? 2 ** -18 : 1)
    tensors.push(stored(name, shape, type, draw))
  })
  return tensors
}

/** The files' values, rounded to the stored types. */
export function storedWeights({ tensors }: RandomCheckpoint): Weights {
  const values = tensors.map(tensor => [tensor.name, tensor.values] as const)
  return { tensors: new Map(values), quantised: new Set() }
}

/** config.json without some of the keys whose value is the default. */
export function withoutDefaults(
  random: Random,
  config: Readonly<Record<string, unknown>>,
  defaults: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const isKept = ([key, value]: [string, unknown]) =>
    !(key in defaults) || defaults[key] !== value || random.chance(0.5)
  return Object.fromEntries(Object.entries(config).filter(isKept))
}

export function divisors(value: number): number[] {
  return Array.from({ length: value }, (_, i) => i + 1).filter(n => value % n === 0)
}

const WIDTH = { f32: 4, f16: 2, bf16: 2, f64: 8, i64: 8 } as const

export function stored(
  name: string,
  shape: readonly number[],
  type: Stored['type'],
  draw: () => number,
): Stored {
  const count = shape.reduce((a, b) => a * b, 1)
  const values = new Float64Array(count)
  const bytes = Buffer.alloc(count * WIDTH[type])
  for (let i = 0; i < count; i++) values[i] = store(bytes, i, type, draw())
  return { name, shape, type, values, bytes }
}

/** Writes the i-th element and returns what was written. */
function store(bytes: Buffer, i: number, type: Stored['type'], value: number): number {
  if (type === 'f64') bytes.writeDoubleLE(value, 8 * i)
  else if (type === 'i64') bytes.writeBigInt64LE(BigInt(value), 8 * i)
  else if (type === 'f32') bytes.writeFloatLE(value, 4 * i)
  else {
    const [fraction, bias] = type === 'f16' ? [10, 15] : [7, 127]
    const { bits, rounded } = shortFloat(value, fraction, bias)
    bytes.writeUInt16LE(bits, 2 * i)
    return rounded
  }
  return type === 'f32' ? Math.fround(value) : value
}

/** The nearest float of 16 bits, ties to even; too large a value is not asked for. */
function shortFloat(value: number, fractionBits: number, bias: number) {
  const sign = value < 0 ? 0x8000 : 0
  const infinity = ((2 * bias + 1) << fractionBits) | sign
  if (Number.isNaN(value)) return { bits: infinity | 1, rounded: NaN }
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(value) || 2 ** -bias)), 1 - bias)
  const unit = 2 ** (exponent - fractionBits)
  const scaled = Math.abs(value) / unit
  const floor = Math.floor(scaled)
  const up = scaled - floor > 0.5 || (scaled - floor === 0.5 && floor % 2 === 1)
  const mantissa = floor + (up ? 1 : 0)
  // A mantissa of 2^(fractionBits + 1) carries into the exponent; below 2^fractionBits the float is
  // subnormal.
  const bits = sign | (mantissa + ((exponent + bias - 1) << fractionBits))
  return { bits, rounded: (sign ? -1 : 1) * mantissa * unit }
}

// Files

export function weightFiles(
  random: Random,
  format: Format,
  tensors: readonly Stored[],
): Record<string, Buffer | string> {
  const isBin = format.startsWith('bin')
  const write = (part: readonly Stored[]) =>
    isBin ? binFile(random, part) : safetensorsFile(random, part)
  const shuffled = random.shuffled(tensors)
  const name = isBin ? 'pytorch_model' : 'model'
  const ending = isBin ? 'bin' : 'safetensors'
  if (!format.endsWith('sharded')) return { [`${name}.${ending}`]: write(shuffled) }
  const shards = random.integer(1, 3)
  const files: Record<string, Buffer | string> = {}
  const weightMap: Record<string, string> = {}
  for (let s = 0; s < shards; s++) {
    const file = `${name}-0000${s + 1}-of-0000${shards}.${ending}`
    const part = shuffled.filter((_, i) => i % shards === s)
    for (const tensor of part) weightMap[tensor.name] = file
    files[file] = write(part)
  }
  const total = tensors.reduce((sum, tensor) => sum + tensor.bytes.length, 0)
  files[`${name}.${ending}.index.json`] = JSON.stringify({
    metadata: { total_size: total },
    weight_map: weightMap,
  })
  return files
}

function safetensorsFile(random: Random, tensors: readonly Stored[]): Buffer {
  const header: Record<string, unknown> = random.chance(0.5)
    ? { __metadata__: { format: 'pt' } }
    : {}
  let offset = 0
  for (const { name, shape, type, bytes } of tensors) {
    header[name] = {
      dtype: type.toUpperCase(),
      shape,
      data_offsets: [offset, offset + bytes.length],
    }
    offset += bytes.length
  }
  // The format's writers pad the header to 8 bytes; its readers must not need it.
  const text = JSON.stringify(header) + ' '.repeat(random.integer(0, 7))
  return safetensorsBytes(text, Buffer.concat(tensors.map(tensor => tensor.bytes)))
}

const STORAGES = {
  f32: 'FloatStorage',
  f16: 'HalfStorage',
  bf16: 'BFloat16Storage',
  f64: 'DoubleStorage',
  i64: 'LongStorage',
}

/** Some tensors lie in a storage behind other elements, and some matrices lie transposed. */
function binFile(random: Random, tensors: readonly Stored[]): Buffer {
  const storages: Record<string, Buffer> = {}
  const items: Buffer[] = []
  for (const [i, { name, shape, type, bytes }] of tensors.entries()) {
    const width = WIDTH[type]
    const offset = random.chance(0.2) ? random.integer(1, 9) : 0
    const isTransposed = shape.length === 2 && random.chance(0.2)
    const content = isTransposed ? transposed(bytes, shape, width) : bytes
    const storage = Buffer.concat([Buffer.alloc(offset * width, 0x3f), content])
    const key = String(i * 3)
    storages[key] = storage
    items.push(
      pickled.text(name),
      pickled.tensor({
        key,
        type: STORAGES[type],
        length: storage.length / width,
        offset,
        shape: [...shape],
        ...(isTransposed && { strides: [1, shape[0]!] }),
      }),
    )
  }
  return torchZip(pickleBytes(pickled.dict(...items)), storages)
}

function transposed(bytes: Buffer, shape: readonly number[], width: number): Buffer {
  const [rows, columns] = shape as [number, number]
  const out = Buffer.alloc(bytes.length)
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      bytes.copy(
        out,
        (c * rows + r) * width,
        (r * columns + c) * width,
        (r * columns + c + 1) * width,
      )
    }
  }
  return out
}
