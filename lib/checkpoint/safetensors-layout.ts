/** The files of a safetensors checkpoint to be written: which tensor goes where, each file's header, the shard index. */

import { elementCount } from './tensor-file.js'
import { DTYPE_SIZE, type DType, type TensorRef } from './tensor-ref.js'

/** A stored tensor, and the type to write it in. */
export interface OutputTensor {
  readonly name: string
  readonly ref: TensorRef
  readonly dtype: DType
}

export interface OutputFile {
  readonly name: string
  /** In the order in which they lie in the file. */
  readonly tensors: readonly OutputTensor[]
  /** Everything before the first tensor's bytes. */
  readonly header: Uint8Array
  /** Of the tensors. */
  readonly byteLength: number
}

const DTYPE_NAME: Readonly<Record<DType, string>> = { f32: 'F32', bf16: 'BF16', f16: 'F16' }

/**
 * One file `model.safetensors`, or shards of at most `maxShardBytes` of tensors each, filled in order. A tensor that is
 * larger than that gets a shard of its own.
 */
export function layOut(tensors: readonly OutputTensor[], maxShardBytes: number): OutputFile[] {
  const shards: OutputTensor[][] = [[]]
  let filled = 0
  for (const tensor of tensors) {
    const size = byteLength(tensor)
    if (filled > 0 && filled + size > maxShardBytes) {
      shards.push([])
      filled = 0
    }
    shards.at(-1)!.push(tensor)
    filled += size
  }
  return shards.map((shard, i) => {
    // Wider types first, so that every tensor is aligned to its element, whatever lies before it.
    const ordered = [...shard].sort((a, b) => DTYPE_SIZE[b.dtype] - DTYPE_SIZE[a.dtype])
    return { name: shardName(i, shards.length), tensors: ordered, ...encodeHeader(ordered) }
  })
}

/** The content of model.safetensors.index.json, as Hugging Face writes it. */
export function shardIndex(files: readonly OutputFile[]): string {
  const totalSize = files.reduce((sum, file) => sum + file.byteLength, 0)
  const entries = files.flatMap(({ name, tensors }) => tensors.map(tensor => [tensor.name, name] as const))
  const weightMap = Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)))
  return `${JSON.stringify({ metadata: { total_size: totalSize }, weight_map: weightMap }, null, 2)}\n`
}

function shardName(index: number, count: number): string {
  if (count === 1) return 'model.safetensors'
  const padded = (n: number) => String(n).padStart(5, '0')
  return `model-${padded(index + 1)}-of-${padded(count)}.safetensors`
}

function byteLength({ ref, dtype }: OutputTensor): number {
  return elementCount(ref.shape)! * DTYPE_SIZE[dtype]
}

function encodeHeader(tensors: readonly OutputTensor[]): { header: Uint8Array; byteLength: number } {
  // transformers refuses a file that does not say which framework wrote it.
  const entries: [string, unknown][] = [['__metadata__', { format: 'pt' }]]
  let end = 0
  for (const tensor of tensors) {
    const begin = end
    end += byteLength(tensor)
    const { name, ref, dtype } = tensor
    entries.push([name, { dtype: DTYPE_NAME[dtype], shape: ref.shape, data_offsets: [begin, end] }])
  }
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)))
  // Padded with spaces to a multiple of 8, as the format's own writer does: the tensors begin aligned.
  const header = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ')
  header.writeBigUInt64LE(BigInt(header.length - 8))
  json.copy(header, 8)
  return { header, byteLength: end }
}
