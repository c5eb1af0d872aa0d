/**
 * Any supported checkpoint to one safetensors directory with tokenizer.json. The tensors' bytes go from the old files to
 * the new ones in native code.
 */

import { existsSync } from 'node:fs'
import { readdir, realpath } from 'node:fs/promises'
import { basename, join, resolve, sep } from 'node:path'
import { fromNative, loadBinding } from '../binding.js'
import { readConfig } from '../config.js'
import { runWatched } from '../control.js'
import { MoeppError } from '../errors.js'
import { loadTokenizer } from '../tokenizer/tokenizer.js'
import { openCheckpoint, WEIGHT_FILES } from './checkpoint.js'
import { withTorchDtype } from './config-text.js'
import { readText } from './input-file.js'
import { checkTensors } from './names.js'
import { modelParameters, parameterKind } from './parameters.js'
import { layOut, type OutputFile, shardIndex } from './safetensors-layout.js'
import { StagedDirectory } from './staged-directory.js'
import type { DType, TensorRef } from './tensor-ref.js'

/** 5 GB, the size of Hugging Face's shards. */
export const DEFAULT_SHARD_BYTES = 5e9

const MAX_TEXT_BYTES = 100_000_000

/** Copied as they are, where the checkpoint has them. tokenizer.json is one of them, or is made from tokenizer.model. */
const COPIED_FILES = [
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
]

export interface ConvertOptions {
  /**
   * Type of the stored matrices; 'auto' leaves every tensor's. With 'bfloat16' norms, router and constants keep their
   * type, because they are computed with in float32: the result then gives the same logits as the original loaded in
   * bfloat16. Default 'auto'.
   */
  readonly dtype?: 'auto' | 'float32' | 'bfloat16'
  /** Default DEFAULT_SHARD_BYTES. */
  readonly maxShardBytes?: number
  /** Replace a checkpoint that is at the target already. Default false. */
  readonly force?: boolean
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void
  /** Ends the conversion early; nothing is left of it. */
  readonly signal?: AbortSignal
}

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
 * @throws MoeppError ERR_CANNOT_WRITE when the target exists or cannot be written, ERR_ABORTED, and what loading throws
 */
export async function convertCheckpoint(
  source: string,
  target: string,
  options: ConvertOptions = {},
): Promise<ConvertResult> {
  options.signal?.throwIfAborted()
  await refuseOverlap(source, target)
  if (options.force) await refuseOtherDirectory(target)
  const dtype = options.dtype ?? 'auto'
  const config = await readConfig(source)
  const checkpoint = await openCheckpoint(source)
  checkTensors(config, checkpoint)
  const parameters = modelParameters(config, checkpoint)
  const tensors = [...parameters].map(([name, ref]) => ({ name, ref, dtype: targetDType(name, ref, dtype) }))
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
      name => !parameters.has(name),
    ),
  }
}

function targetDType(name: string, stored: TensorRef, dtype: NonNullable<ConvertOptions['dtype']>): DType {
  if (dtype === 'auto') return stored.dtype
  if (dtype === 'float32') return 'f32'
  const kind = parameterKind(name)
  return kind === 'norms' || kind === 'router' || kind === 'constantExperts' ? stored.dtype : 'bf16'
}

/** Name to content of every file that is not weights. */
async function textFiles(
  source: string,
  files: readonly OutputFile[],
  dtype: NonNullable<ConvertOptions['dtype']>,
): Promise<Map<string, string>> {
  const texts = new Map<string, string>()
  const configPath = join(source, 'config.json')
  const config = await readText(configPath, MAX_TEXT_BYTES)
  texts.set('config.json', dtype === 'auto' ? config : withTorchDtype(config, dtype, configPath))
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
  const totalBytes = files.reduce((sum, file) => sum + file.byteLength, 0)
  await runWatched(
    async control => {
      for (const { name, tensors, header } of files) {
        const refs = tensors.map(tensor => ({ ...tensor.ref, name: tensor.name }))
        const dtypes = tensors.map(tensor => tensor.dtype)
        await writeTensors(join(staged.path, name), header, refs, dtypes, control)
      }
    },
    { signal, onProgress: done => onProgress?.(done, totalBytes) },
  )
}

/** The old files are read until the end, and --force removes what is at the target. */
async function refuseOverlap(source: string, target: string): Promise<void> {
  const from = await realpath(source).catch(() => resolve(source))
  const to = await realpath(target).catch(() => resolve(target))
  if (from !== to && !from.startsWith(to + sep)) return
  throw new MoeppError(
    'ERR_CANNOT_WRITE',
    `${target}: holds the checkpoint that is converted, ${basename(from)}`,
  )
}

/** Only a checkpoint is ever replaced: a slip of the hand must not remove a home directory. */
async function refuseOtherDirectory(target: string): Promise<void> {
  const names = await readdir(target).catch((error: NodeJS.ErrnoException): string[] => {
    if (error.code === 'ENOENT') return []
    throw new MoeppError('ERR_CANNOT_WRITE', `${target}: is not a directory`, { cause: error })
  })
  if (names.length === 0) return
  if (names.includes('config.json') && WEIGHT_FILES.some(file => names.includes(file.name))) return
  throw new MoeppError('ERR_CANNOT_WRITE', `${target}: is not a checkpoint, so that it is not replaced`)
}
