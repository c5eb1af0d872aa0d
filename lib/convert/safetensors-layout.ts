/**
 * The files of a safetensors checkpoint to be written: which tensor goes where, each file's header,
 * the shard index.
 */

import {
  type PackedWeight,
  packedBytes,
  packedLayout,
  packedMetadata,
} from '../checkpoint/packed.js'
import { elementCount } from '../tensor/tensor-file.js'
import {
  DTYPE_SIZE,
  type NamedRef,
  type StoredDType,
  type TensorRef,
} from '../tensor/tensor-ref.js'

/** A stored tensor, and the type to write it in. */
export interface ElementsOutput {
  readonly name: string
  readonly ref: TensorRef
  readonly dtype: StoredDType
}

/** A weight to be packed, and the stored tensors that it is made of. */
export interface PackedOutput extends PackedWeight {
  readonly name: string
  readonly parts: readonly NamedRef[]
}

export type OutputTensor = ElementsOutput | PackedOutput

export function isPackedOutput(tensor: OutputTensor): tensor is PackedOutput {
  return 'packed' in tensor
}

export interface OutputFile {
  readonly name: string
  /** By their place in the file. */
  readonly tensors: readonly OutputTensor[]
  /** Everything before the first tensor's bytes. */
  readonly header: Uint8Array
  /** Of the tensors. */
  readonly byteLength: number
}

const DTYPE_NAME: Readonly<Record<StoredDType, string>> = {
  f32: 'F32',
  bf16: 'BF16',
  f16: 'F16',
  float8: 'F8_E4M3',
}

/**
 * One file `model.safetensors`, or shards of at most `maxShardBytes` of tensors each, filled in
 * order. A tensor that is larger than that gets a shard of its own.
 */
export function layOut(tensors: readonly OutputTensor[], maxShardBytes: number): OutputFile[] {
  const shards: OutputTensor[][] = [[]]
  let filled = 0
  for (const tensor of tensors) {
    const size = outputBytes(tensor)
    if (filled > 0 && filled + size > maxShardBytes) {
      shards.push([])
      filled = 0
    }
    shards.at(-1)!.push(tensor)
    filled += size
  }
  return shards.map((shard, i) => {
    // Packed weights come first: they take multiples of their alignment. Then wider types come
    // first, so that every tensor is aligned to its element.
    const ordered = [...shard].sort((a, b) => alignment(b) - alignment(a))
    return { name: shardName(i, shards.length), tensors: ordered, ...encodeHeader(ordered) }
  })
}

/** The content of model.safetensors.index.json, as Hugging Face writes it. */
export function shardIndex(files: readonly OutputFile[]): string {
  const totalSize = files.reduce((sum, file) => sum + file.byteLength, 0)
  const entries = files.flatMap(({ name, tensors }) =>
    tensors.map(tensor => [tensor.name, name] as const),
  )
  const weightMap = Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)))
  return `${JSON.stringify({ metadata: { total_size: totalSize }, weight_map: weightMap }, null, 2)}\n`
}

/** True if a conversion may give this name to a file of weights or to their index. */
export function isOutputName(name: string): boolean {
  return /^model(-\d{5,}-of-\d{5,})?\.safetensors$|^model\.safetensors\.index\.json$/.test(name)
}

function shardName(index: number, count: number): string {
  if (count === 1) return 'model.safetensors'
  const padded = (n: number) => String(n).padStart(5, '0')
  return `model-${padded(index + 1)}-of-${padded(count)}.safetensors`
}

function alignment(tensor: OutputTensor): number {
  return isPackedOutput(tensor) ? packedLayout().alignment : DTYPE_SIZE[tensor.dtype]
}

export function outputBytes(tensor: OutputTensor): number {
  return isPackedOutput(tensor)
    ? packedBytes(tensor)!
    : elementCount(tensor.ref.shape)! * DTYPE_SIZE[tensor.dtype]
}

/** Type and sizes as the header states them. */
function described(tensor: OutputTensor): { dtype: string; shape: readonly number[] } {
  return isPackedOutput(tensor)
    ? { dtype: 'U8', shape: [outputBytes(tensor)] }
    : { dtype: DTYPE_NAME[tensor.dtype], shape: tensor.ref.shape }
}

function encodeHeader(tensors: readonly OutputTensor[]): {
  header: Uint8Array
  byteLength: number
} {
  const packed = new Map(tensors.filter(isPackedOutput).map(tensor => [tensor.name, tensor]))
  // transformers refuses a file that does not say which framework wrote it; it has no use for
  // packed weights.
  const metadata = packed.size > 0 ? packedMetadata(packed) : { format: 'pt' }
  const entries: [string, unknown][] = [['__metadata__', metadata]]
  let end = 0
  for (const tensor of tensors) {
    const begin = end
    end += outputBytes(tensor)
    entries.push([tensor.name, { ...described(tensor), data_offsets: [begin, end] }])
  }
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)))
  // Padded with spaces, as the format's own writer does to a multiple of 8: the tensors begin
  // aligned.
  const unit = packed.size > 0 ? packedLayout().alignment : 8
  const header = Buffer.alloc(Math.ceil((8 + json.length) / unit) * unit, ' ')
  header.writeBigUInt64LE(BigInt(header.length - 8))
  json.copy(header, 8)
  return { header, byteLength: end }
}
