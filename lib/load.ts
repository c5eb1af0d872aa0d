/** loadModel: from a directory or a hub id to a model that runs. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import {
  fromNative,
  loadBinding,
  type NativeDevice,
  type NativeProgram,
  type ProgramSpec,
} from './binding.js'
import { openCheckpoint } from './checkpoint/checkpoint.js'
import { checkTensors } from './checkpoint/names.js'
import { DTYPE_SIZE, type TensorRef } from './checkpoint/tensor-ref.js'
import { type ModelConfig, readConfig, readGenerationConfig } from './config.js'
import { runWatched } from './control.js'
import { MoeppError } from './errors.js'
import { Model, type ModelParts } from './generation/model.js'
import { resolveSource } from './hub.js'
import { recordMoepp } from './model/moepp.js'
import { DeviceRunner, PAGE_SIZE } from './model/runner.js'
import { type LoadOptions, type ResolvedLoadOptions, resolveLoadOptions } from './options.js'
import { loadTokenizer, type Tokenizer } from './tokenizer/tokenizer.js'

/** Tokens that a sequence may hold unless `contextLength` says otherwise: the model's positions, within these. */
const LEAST_CONTEXT = 4096
const MOST_CONTEXT = 32768

/** Tokens of the KV cache unless `kvCacheTokens` says otherwise. Its memory is taken only as it is used. */
const CACHE_TOKENS = 8192

/**
 * Loads a model.
 *
 * @param source a directory, or a hub id such as `Chat-UniVi/MoE-Plus-Plus-7B`
 * @throws MoeppError ERR_NOT_FOUND, ERR_BAD_FILE, ERR_UNSAFE_FILE, ERR_BAD_CONFIG, ERR_BAD_WEIGHTS, ERR_BAD_TOKENIZER,
 *   ERR_HUB, ERR_UNSUPPORTED, ERR_OUT_OF_MEMORY, ERR_ABORTED; TypeError or RangeError for a wrong option
 */
export async function loadModel(source: string, options: LoadOptions = {}): Promise<Model> {
  return new Model(await loadParts(source, resolveLoadOptions(options)))
}

/** What a Model is made of. `isa` is the CPU's instruction set, if it is not to be the best. */
export async function loadParts(
  source: string,
  o: ResolvedLoadOptions,
  isa?: string,
): Promise<ModelParts & { readonly runner: DeviceRunner }> {
  const directory = await resolveSource(source, o)
  const config = await readConfig(directory)
  const generation = await readGenerationConfig(directory)
  const checkpoint = await openCheckpoint(directory)
  const tensors = checkTensors(config, checkpoint)
  const tokenizer = await optionalTokenizer(directory, config)
  if (o.signal?.aborted)
    throw new MoeppError('ERR_ABORTED', 'loading was aborted', { cause: o.signal.reason })
  const device = openDevice(o, isa)
  try {
    const runner = await openRunner(device, config, tensors, o)
    return { runner, config, generation, ...(tokenizer && { tokenizer }) }
  } catch (error) {
    device.close()
    throw fromNative(error)
  }
}

/** A checkpoint without tokenizer files takes and gives token ids only. */
async function optionalTokenizer(directory: string, config: ModelConfig): Promise<Tokenizer | undefined> {
  const files = ['tokenizer.json', 'tokenizer.model']
  if (!files.some(file => existsSync(join(directory, file)))) return undefined
  const tokenizer = await loadTokenizer(directory)
  if (tokenizer.vocabSize > config.vocabSize) {
    throw new MoeppError(
      'ERR_BAD_TOKENIZER',
      `${directory}: the tokenizer has ${tokenizer.vocabSize} tokens, but the embedding only ${config.vocabSize}`,
    )
  }
  return tokenizer
}

/** 'auto' is the CPU until this build knows other devices. */
function openDevice(o: ResolvedLoadOptions, isa: string | undefined): NativeDevice {
  const { Device } = loadBinding()
  try {
    return new Device(o.device === 'auto' ? 'cpu' : o.device, {
      ...(o.threads && { threads: o.threads }),
      ...(isa && { isa }),
    })
  } catch (error) {
    throw fromNative(error)
  }
}

/** What the matrices are held in. */
const MATRIX_DTYPES = { auto: 'exact', float32: 'f32', bfloat16: 'bf16' } as const

async function openRunner(
  device: NativeDevice,
  config: ModelConfig,
  tensors: ReadonlyMap<string, TensorRef>,
  o: ResolvedLoadOptions,
): Promise<DeviceRunner> {
  const contextLength =
    o.contextLength ?? Math.min(MOST_CONTEXT, Math.max(LEAST_CONTEXT, config.maxPositionEmbeddings))
  const cacheTokens = o.kvCacheTokens ?? Math.max(contextLength, CACHE_TOKENS)
  const pages = Math.ceil(cacheTokens / PAGE_SIZE)
  const spec = recordMoepp(config, tensors, MATRIX_DTYPES[o.dtype])
  const program = await compile(device, spec, o)
  try {
    const cache = device.kvCache({
      layers: config.layers,
      pages,
      pageSize: PAGE_SIZE,
      kvHeads: config.kvHeads,
      headDim: config.headDim,
      dtype: o.kvCacheDtype === 'bfloat16' ? 'bf16' : 'f32',
    })
    return new DeviceRunner({ device, program, cache, config, pages, contextLength })
  } catch (error) {
    await program.close()
    throw error
  }
}

/** Compiles off the main thread, with progress and cancellation. */
function compile(device: NativeDevice, spec: ProgramSpec, o: ResolvedLoadOptions): Promise<NativeProgram> {
  const totalBytes = spec.weights.reduce(
    (bytes, weight) => bytes + weight.shape.reduce((a, b) => a * b, DTYPE_SIZE[weight.dtype]),
    0,
  )
  return runWatched(control => device.compile(spec, control), {
    signal: o.signal,
    // Panels are padded, so that native counts a little more than the weights have.
    onProgress: done => o.onProgress?.({ stage: 'load', doneBytes: Math.min(done, totalBytes), totalBytes }),
    discard: program => program.close(),
  })
}
