/**
 * Any supported checkpoint to one safetensors directory with tokenizer.json. The tensors' bytes go
 * from the old files to the new ones in native code.
 */

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fromNative, loadBinding, type PackedEntry } from '../addon/binding.js'
import { runWatched } from '../addon/control.js'
import { openDevice } from '../addon/device.js'
import { readText } from '../base/input-file.js'
import { openCheckpoint } from '../checkpoint/checkpoint.js'
import { MoeppError } from '../errors.js'
import { recordModel } from '../families/record.js'
import { readModel } from '../families/registry.js'
import { MATRIX_DTYPES } from '../load/plan.js'
import type { MatrixType } from '../options/generate.js'
import { allWeights, gateUpWeights, type ModelSpec, storedNames } from '../program/model-spec.js'
import {
  isQuantised,
  type NamedRef,
  type PackedRef,
  type StoredDType,
  type WeightDType,
  type WeightPart,
} from '../tensor/tensor-ref.js'
import { loadTokenizer } from '../tokenizer/tokenizer.js'
import { withoutKey, withTorchDtype } from './config-text.js'
import { COPIED_FILES, checkTarget } from './convert-target.js'
import {
  type ElementsOutput,
  isPackedOutput,
  layOut,
  type OutputFile,
  type OutputTensor,
  outputBytes,
  shardIndex,
} from './safetensors-layout.js'
import { StagedDirectory } from './staged-directory.js'

/** 5 GB, the size of Hugging Face's shards. */
export const DEFAULT_SHARD_BYTES = 5e9

const MAX_TEXT_BYTES = 100_000_000

export interface ConvertOptions {
  /**
   * Type of the stored matrices. Default 'auto', which leaves every tensor's. float8 and its
   * scales stay with 'auto' alone; every other type is made of the products. With 'bfloat16'
   * norms, router and constants keep their type, because they are computed with in float32. The
   * result then gives the same logits as the original loaded in bfloat16. With the others
   * the matrices are quantised as loading does it, and packed in the order of the CPU's kernels.
   * Such a result opens by mapping, and no other program reads it.
   */
  readonly dtype?: 'auto' | MatrixType
  /** Default DEFAULT_SHARD_BYTES. */
  readonly maxShardBytes?: number
  /**
   * Replace the files of an earlier conversion in the target, if it has no others. Default false.
   */
  readonly force?: boolean
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void
  /** Ends the conversion early; nothing is left of it. */
  readonly signal?: AbortSignal
}

type ConvertDType = NonNullable<ConvertOptions['dtype']>

export interface ConvertResult {
  readonly directory: string
  /** Names of all files that were written. */
  readonly files: readonly string[]
  /** Bytes of the tensors. */
  readonly weightBytes: number
  readonly tensors: number
  /** Stored tensors that are no part of the model and were left out. */
  readonly leftOut: readonly string[]
}

/**
 * Converts the checkpoint in `source` to the directory `target`, which appears whole or not at all.
 *
 * @throws MoeppError ERR_CANNOT_WRITE when the target exists or cannot be written, ERR_ABORTED, and
 *   what loading throws
 */
export async function convertCheckpoint(
  source: string,
  target: string,
  options: ConvertOptions = {},
): Promise<ConvertResult> {
  options.signal?.throwIfAborted()
  await checkTarget(source, target, options.force ?? false)
  const dtype = options.dtype ?? 'auto'
  const description = await readModel(source)
  const checkpoint = await openCheckpoint(source)
  refusePacked(checkpoint.packed)
  const spec = recordModel(description, checkpoint, MATRIX_DTYPES[dtype])
  const known = storedNames(spec)
  const tensors = outputTensors(spec, dtype)
  const files = layOut(tensors, options.maxShardBytes ?? DEFAULT_SHARD_BYTES)
  const texts = await textFiles(source, files, dtype)

  const staged = await StagedDirectory.create(target, options.force ?? false)
  try {
    for (const [name, content] of texts) await staged.write(name, content)
    await writeWeights(staged, files, options)
    options.signal?.throwIfAborted()
    await staged.commit()
  } catch (error) {
    await staged.discard()
    throw fromNative(error)
  }
  return {
    directory: staged.target,
    files: [...files.map(file => file.name), ...texts.keys()],
    weightBytes: files.reduce((sum, file) => sum + file.byteLength, 0),
    tensors: tensors.length,
    leftOut: [...checkpoint.tensors.keys(), ...checkpoint.unusable.keys()].filter(
      name => !known.has(name),
    ),
  }
}

/**
 * Packed weights cannot be converted: the originals are gone, and the layout is for this machine.
 */
function refusePacked(packed: ReadonlyMap<string, PackedRef>): void {
  for (const [name, { dtype, file }] of packed) {
    throw new MoeppError(
      'ERR_UNSUPPORTED',
      `${name}: is stored as ${dtype} already (${file}); convert the checkpoint that it was made from`,
    )
  }
}

/**
 * The tensors to write, in the order of the forward pass. Weights that loading would quantise have
 * the order of rows that their ops read. All others are as they are stored.
 */
function outputTensors(spec: ModelSpec, dtype: ConvertDType): OutputTensor[] {
  const gateUp = gateUpWeights(spec)
  const weights = allWeights(spec).flatMap<OutputTensor>(({ name, dtype: held, shape, parts }) => {
    const stored = parts as readonly NamedRef[]
    if (!isQuantised(held)) return stored.flatMap(part => elementsOutput(part, held, dtype))
    const packed = gateUp.has(name) ? 'gateUp' : 'matrix'
    return [{ name, dtype: held, shape, packed, parts: stored }]
  })
  const unread = spec.unread.flatMap(({ name, ref }) =>
    elementsOutput({ ...ref, name }, 'f32', dtype),
  )
  // Several weights may have rows of one stored tensor.
  const byName = new Map([...weights, ...unread].map(tensor => [tensor.name, tensor]))
  return [...byName.values()]
}

/** A stored tensor, with its scales if it stays float8. */
function elementsOutput(
  { name, rows: _, ...ref }: NamedRef & Pick<WeightPart, 'rows'>,
  held: WeightDType,
  dtype: ConvertDType,
): ElementsOutput[] {
  const output = { name, ref, dtype: storedAs(ref.dtype, held, dtype) }
  const { scale } = ref
  if (output.dtype !== 'float8' || !scale) return [output]
  return [output, { name: scale.name, ref: scale, dtype: scale.dtype }]
}

/** Small tensors keep their type: they are computed with in f32. */
function storedAs(stored: StoredDType, held: WeightDType, dtype: ConvertDType): StoredDType {
  if (dtype === 'float32') return 'f32'
  if (dtype === 'bfloat16' && held === 'bf16') return 'bf16'
  return stored === 'float8' && dtype !== 'auto' ? (held === 'bf16' ? 'bf16' : 'f32') : stored
}

/** Name to content of every file that is not weights. */
async function textFiles(
  source: string,
  files: readonly OutputFile[],
  dtype: ConvertDType,
): Promise<Map<string, string>> {
  const texts = new Map<string, string>()
  const configPath = join(source, 'config.json')
  const original = await readText(configPath, MAX_TEXT_BYTES)
  // It describes float8, and none is left.
  const config =
    dtype === 'auto' ? original : withoutKey(original, 'quantization_config', configPath)
  const stored = dtype === 'float32' || dtype === 'bfloat16' ? dtype : undefined
  texts.set('config.json', stored ? withTorchDtype(config, stored, configPath) : config)
  for (const name of COPIED_FILES) {
    const path = join(source, name)
    if (existsSync(path)) texts.set(name, await readText(path, MAX_TEXT_BYTES))
  }
  if (existsSync(join(source, 'tokenizer.model')) || texts.has('tokenizer.json')) {
    // Also when it is only copied: what cannot be loaded should not be found out later.
    const tokenizer = await loadTokenizer(source)
    if (!texts.has('tokenizer.json')) {
      texts.set('tokenizer.json', `${JSON.stringify(tokenizer.toJSON(), null, 2)}\n`)
    }
  }
  if (files.length > 1) texts.set('model.safetensors.index.json', shardIndex(files))
  return texts
}

async function writeWeights(
  staged: StagedDirectory,
  files: readonly OutputFile[],
  { signal, onProgress }: ConvertOptions,
): Promise<void> {
  const { writeTensors } = loadBinding()
  const device = files.some(file => file.tensors.some(isPackedOutput))
    ? openDevice('cpu')
    : undefined
  const totalBytes = files.reduce((sum, file) => sum + file.byteLength, 0)
  const written = runWatched(
    async control => {
      for (const { name, tensors, header } of files) {
        const path = join(staged.path, name)
        if (device) {
          await device.writePacked(path, header, packedEntries(tensors, header.length), control)
          continue
        }
        const elements = tensors.filter(tensor => !isPackedOutput(tensor))
        const refs = elements.map(tensor => ({ ...tensor.ref, name: tensor.name }))
        const dtypes = elements.map(tensor => tensor.dtype)
        await writeTensors(path, header, refs, dtypes, control)
      }
    },
    { signal, onProgress: done => onProgress?.(done, totalBytes) },
  )
  await written.finally(() => device?.close())
}

/** One behind the other from `start` on. */
function packedEntries(tensors: readonly OutputTensor[], start: number): PackedEntry[] {
  let end = start
  return tensors.map(tensor => {
    const byteOffset = end
    end += outputBytes(tensor)
    if (isPackedOutput(tensor)) {
      const { name, dtype, shape, parts, packed } = tensor
      return { weight: { name, dtype, shape, parts }, layout: packed, byteOffset }
    }
    const { name, dtype, ref } = tensor
    return {
      weight: { name, dtype, shape: ref.shape, parts: [{ ...ref, name }] },
      layout: 'rows',
      byteOffset,
    }
  })
}
