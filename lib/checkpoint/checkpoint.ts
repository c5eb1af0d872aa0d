/** A directory with a model's weights: finds the files and says where each tensor lies. */

import { join, resolve } from 'node:path'
import { exists, readText } from '../base/input-file.js'
import { isObject, parseJsonObject, show } from '../base/json.js'
import { MoeppError } from '../errors.js'
import type { TensorFile } from '../tensor/tensor-file.js'
import type { PackedRef, TensorRef } from '../tensor/tensor-ref.js'
import { readSafetensors } from './safetensors.js'
import { readTorchBin } from './torch-bin.js'

export type CheckpointFormat = 'safetensors' | 'bin'

export interface Checkpoint extends TensorFile {
  readonly directory: string
  readonly format: CheckpointFormat
  /** Absolute paths of the files that hold the tensors. */
  readonly files: readonly string[]
}

interface WeightFile {
  readonly name: string
  readonly format: CheckpointFormat
  /** The file lists shards instead of holding tensors. */
  readonly isIndex: boolean
}

/** Files that may hold the weights; the first that exists counts, as in Hugging Face's loader. */
export const WEIGHT_FILES: readonly WeightFile[] = [
  { name: 'model.safetensors', format: 'safetensors', isIndex: false },
  { name: 'model.safetensors.index.json', format: 'safetensors', isIndex: true },
  { name: 'pytorch_model.bin', format: 'bin', isIndex: false },
  { name: 'pytorch_model.bin.index.json', format: 'bin', isIndex: true },
]

const READERS = { safetensors: readSafetensors, bin: readTorchBin }
const MAX_INDEX_BYTES = 100_000_000

/** Reads the headers of all weight files of a directory; no tensor is read. */
export async function openCheckpoint(directory: string): Promise<Checkpoint> {
  const root = resolve(directory)
  const { name, format, isIndex } = await findWeightFile(root)
  if (isIndex) return openShards(root, name, format)
  const path = join(root, name)
  return { directory: root, format, files: [path], ...(await READERS[format](path)) }
}

/**
 * The weight map of an index file: tensor name to shard. A shard is a plain file name, so that an
 * index cannot reach outside of its directory.
 */
export function parseShardIndex(text: string, where: string): ReadonlyMap<string, string> {
  const { weight_map: weightMap } = parseJsonObject(text, where)
  if (!isObject(weightMap))
    throw new MoeppError('ERR_BAD_FILE', `${where}: weight_map is not an object`)
  const shards = new Map<string, string>()
  for (const [tensor, shard] of Object.entries(weightMap)) {
    if (typeof shard !== 'string' || !isPlainFileName(shard)) {
      throw new MoeppError(
        'ERR_UNSAFE_FILE',
        `${where}: ${show(tensor)} is in ${show(shard)}, expected the name of a file in the same directory`,
      )
    }
    shards.set(tensor, shard)
  }
  return shards
}

/**
 * No separator of any system, no drive, no `.` or `..`, no control character. No name that means a
 * device on Windows, and no dot or space at the end, which Windows drops.
 */
export function isPlainFileName(name: string): boolean {
  if (/^(con|prn|aux|nul|com\d|lpt\d) *(\.|$)/i.test(name) || /[ .]$/.test(name)) return false
  return /^[\w-][\w .+=@~-]*$/.test(name) && name.length <= 255
}

async function findWeightFile(root: string): Promise<WeightFile> {
  for (const file of WEIGHT_FILES) {
    if (await exists(join(root, file.name))) return file
  }
  const why = (await exists(root))
    ? `holds no weights (${WEIGHT_FILES.map(file => file.name).join(', ')})`
    : 'no such directory'
  throw new MoeppError('ERR_NOT_FOUND', `${root}: ${why}`)
}

async function openShards(
  root: string,
  index: string,
  format: CheckpointFormat,
): Promise<Checkpoint> {
  const where = join(root, index)
  const weightMap = parseShardIndex(await readText(where, MAX_INDEX_BYTES), where)
  const shards = new Map<string, TensorFile>()
  for (const shard of new Set(weightMap.values())) {
    shards.set(shard, await READERS[format](join(root, shard)))
  }
  const tensors = new Map<string, TensorRef>()
  const packed = new Map<string, PackedRef>()
  const unusable = new Map<string, string>()
  for (const [name, shard] of weightMap) {
    const { tensors: usable, packed: weights, unusable: other } = shards.get(shard)!
    if (usable.has(name)) tensors.set(name, usable.get(name)!)
    else if (weights.has(name)) packed.set(name, weights.get(name)!)
    else if (other.has(name)) unusable.set(name, other.get(name)!)
    else throw new MoeppError('ERR_BAD_FILE', `${where}: ${show(name)} is not in ${shard}`)
  }
  const files = [...shards.keys()].map(shard => join(root, shard))
  return { directory: root, format, files, tensors, packed, unusable }
}
