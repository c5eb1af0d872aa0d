/** loadModel: from a directory or a hub id to a model that runs. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import {
  fromNative,
  type KvCacheOptions,
  loadBinding,
  type NativeDevice,
  type NativeProgram,
  type ProgramSpec,
} from './binding.js'
import { openCheckpoint } from './checkpoint/checkpoint.js'
import { checkTensors } from './checkpoint/names.js'
import {
  DTYPE_SIZE,
  isPacked,
  isQuantised,
  type StoredRef,
  weightSize,
} from './checkpoint/tensor-ref.js'
import { type ModelConfig, readConfig, readGenerationConfig } from './config.js'
import { runWatched } from './control.js'
import {
  checkPackedLayout,
  describeDevice,
  findGpu,
  isGpuFailure,
  openDevice,
  tooLarge,
  warnFallback,
} from './device.js'
import { type LoadTrace, publicSource, traced } from './diagnostics.js'
import { MoeppError } from './errors.js'
import { Model, type ModelParts } from './generation/model.js'
import { resolveSource } from './hub.js'
import { recordMoepp } from './model/moepp.js'
import { DeviceRunner, PAGE_SIZE } from './model/runner.js'
import {
  type LoadOptions,
  type MatrixType,
  type ResolvedLoadOptions,
  resolveLoadOptions,
} from './options.js'
import { loadTokenizer, type Tokenizer } from './tokenizer/tokenizer.js'

/**
 * Tokens that a sequence may hold unless `contextLength` says otherwise: the model's positions,
 * within these.
 */
const LEAST_CONTEXT = 4096
const MOST_CONTEXT = 32768

/**
 * Tokens of the KV cache unless `kvCacheTokens` says otherwise. The CPU takes its memory only as it
 * is used.
 */
const CACHE_TOKENS = 8192

/**
 * Tokens of one step: enough for the GEMMs to reach their rate, few enough that a step is short.
 */
const MOST_CPU_STEP_TOKENS = 512
const MOST_GPU_STEP_TOKENS = 2048

const CACHE_DTYPES = { auto: undefined, float32: 'f32', bfloat16: 'bf16' } as const

/**
 * Loads a model.
 *
 * @param source a directory, or a hub id such as `Chat-UniVi/MoE-Plus-Plus-7B`
 * @throws MoeppError ERR_NOT_FOUND, ERR_BAD_FILE, ERR_UNSAFE_FILE, ERR_BAD_CONFIG, ERR_BAD_WEIGHTS,
 *   ERR_BAD_TOKENIZER,
 *   ERR_HUB, ERR_UNSUPPORTED, ERR_NO_GPU, ERR_DRIVER_TOO_OLD, ERR_GPU_TOO_OLD, ERR_DEVICE,
 *   ERR_OUT_OF_MEMORY, ERR_ABORTED;
 *   TypeError or RangeError for a wrong option
 */
export async function loadModel(source: string, options: LoadOptions = {}): Promise<Model> {
  const o = resolveLoadOptions(options)
  return traced(
    'load',
    (): LoadTrace => ({
      source: publicSource(source),
      requested: { device: o.device, dtype: o.dtype },
    }),
    async () => {
      const parts = await loadParts(source, o)
      return { model: new Model(parts), dtype: parts.runner.info().matrixType }
    },
    ({ model, dtype }) => ({ device: model.device.name, dtype }),
  ).then(({ model }) => model)
}

/** What a Model is made of. */
export async function loadParts(
  source: string,
  o: ResolvedLoadOptions,
): Promise<ModelParts & { readonly runner: DeviceRunner }> {
  const directory = await resolveSource(source, o)
  const config = await readConfig(directory)
  const generation = await readGenerationConfig(directory)
  const checkpoint = await openCheckpoint(directory)
  const tensors = checkTensors(config, checkpoint)
  const tokenizer = await optionalTokenizer(directory, config)
  if (o.signal?.aborted)
    throw new MoeppError('ERR_ABORTED', 'loading was aborted', { cause: o.signal.reason })
  const runner = await openRunner(config, tensors, o)
  return { runner, config, generation, ...(tokenizer && { tokenizer }) }
}

/** A checkpoint without tokenizer files takes and gives token ids only. */
async function optionalTokenizer(
  directory: string,
  config: ModelConfig,
): Promise<Tokenizer | undefined> {
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

/** What the matrices are held in. */
export const MATRIX_DTYPES = {
  auto: 'exact',
  float32: 'f32',
  bfloat16: 'bf16',
  int8: 'int8',
  int4: 'int4',
} as const

/**
 * The model on the device that was asked for; 'auto' is the first GPU if there is one that the
 * model loads on, else the CPU.
 */
async function openRunner(
  config: ModelConfig,
  tensors: ReadonlyMap<string, StoredRef>,
  o: ResolvedLoadOptions,
): Promise<DeviceRunner> {
  const spec = recordMoepp(
    config,
    tensors,
    MATRIX_DTYPES[o.dtype],
    o.activationDtype === 'bfloat16',
  )
  checkActivationDtype(spec, o)
  if (o.device === 'cpu') return load(openCpu(spec, o), config, spec, o)
  if (o.device !== 'auto') return load(openDevice(o.device), config, spec, o)
  const gpu = findGpu()
  let reason: string
  if ('device' in gpu) {
    const why = tooLarge(
      gpu.device.info(),
      weightBytes(spec) + cacheBytes(cacheOf(config, spec, o, true)),
    )
    try {
      if (why === undefined) return await load(gpu.device, config, spec, o)
      gpu.device.close()
      reason = why
    } catch (error) {
      if (!isGpuFailure(error)) throw error
      reason = error.message
    }
  } else {
    reason = gpu.reason
  }
  if (!('expected' in gpu && gpu.expected)) warnFallback(reason)
  return load(openCpu(spec, o), config, spec, o, reason)
}

/** Matrices in bf16 alone are multiplied with what may be rounded to bf16. */
function checkActivationDtype(spec: ProgramSpec, { activationDtype }: ResolvedLoadOptions): void {
  const held = matrixTypeOf(spec)
  if (activationDtype === 'auto' || held === activationDtype) return
  throw new MoeppError(
    'ERR_UNSUPPORTED',
    `activationDtype: expected "auto" for matrices in ${held}, got "${activationDtype}", which is for those in bfloat16`,
  )
}

/** With the instruction set that was named, or the fastest for these weights. */
function openCpu(
  spec: ProgramSpec,
  { threads, isa, activationDtype }: ResolvedLoadOptions,
): NativeDevice {
  const fastest = () =>
    loadBinding().fastestIsa(holdsQuantised(spec) ? 'int8' : 'bf16', activationDtype === 'bfloat16')
  return openDevice('cpu', { threads, isa: isa === 'auto' ? fastest() : isa })
}

function holdsQuantised({ weights }: ProgramSpec): boolean {
  return weights.some(({ dtype }) => isQuantised(dtype))
}

/** Closes the device if anything fails. */
async function load(
  device: NativeDevice,
  config: ModelConfig,
  spec: ProgramSpec,
  o: ResolvedLoadOptions,
  reason?: string,
): Promise<DeviceRunner> {
  let program: NativeProgram | undefined
  try {
    const onGpu = device.info().name !== 'cpu'
    if (spec.weights.some(({ parts }) => parts.some(isPacked))) checkPackedLayout(device.info())
    program = await compile(device, spec, o)
    const shape = cacheOf(config, spec, o, onGpu)
    return new DeviceRunner({
      device,
      program,
      cache: device.kvCache(shape),
      config,
      matrixType: matrixTypeOf(spec),
      kvCacheDtype: shape.dtype === 'bf16' ? 'bfloat16' : 'float32',
      activationDtype: o.activationDtype,
      pages: shape.pages - paddingPages(onGpu),
      paddingPage: onGpu ? shape.pages - 1 : undefined,
      contextLength: contextLengthOf(config, o),
      maxStepTokens: onGpu ? MOST_GPU_STEP_TOKENS : MOST_CPU_STEP_TOKENS,
      description: describeDevice(device.info(), reason),
    })
  } catch (error) {
    await program?.close()
    device.close()
    throw fromNative(error)
  }
}

function contextLengthOf(config: ModelConfig, o: ResolvedLoadOptions): number {
  return (
    o.contextLength ?? Math.min(MOST_CONTEXT, Math.max(LEAST_CONTEXT, config.maxPositionEmbeddings))
  )
}

/** Pages of the cache that no sequence has: see model/padding.ts. */
const paddingPages = (onGpu: boolean) => (onGpu ? 1 : 0)

function cacheOf(
  config: ModelConfig,
  spec: ProgramSpec,
  o: ResolvedLoadOptions,
  onGpu: boolean,
): KvCacheOptions {
  const tokens = o.kvCacheTokens ?? Math.max(contextLengthOf(config, o), CACHE_TOKENS)
  return {
    layers: config.layers,
    pages: Math.ceil(tokens / PAGE_SIZE) + paddingPages(onGpu),
    pageSize: PAGE_SIZE,
    kvHeads: config.kvHeads,
    headDim: config.headDim,
    dtype: CACHE_DTYPES[o.kvCacheDtype] ?? (roundsMore(spec, o, onGpu) ? 'bf16' : 'f32'),
  }
}

/**
 * Whether activations are rounded to bf16 or more coarsely in any case, so that a bf16 cache costs
 * next to nothing: where it was asked for, to int8 for quantised matrices on the CPU, to bf16 for
 * all below f32 on a GPU's tensor cores, which want a bf16 cache besides.
 */
function roundsMore(spec: ProgramSpec, o: ResolvedLoadOptions, onGpu: boolean): boolean {
  const asked = o.activationDtype === 'bfloat16'
  return (
    asked || holdsQuantised(spec) || (onGpu && spec.weights.some(({ dtype }) => dtype === 'bf16'))
  )
}

/** The type of the FFN experts, which are most of the weights. */
function matrixTypeOf({ weights }: ProgramSpec): MatrixType {
  const held = new Set(weights.filter(({ shape }) => shape.length === 3).map(({ dtype }) => dtype))
  if (held.has('int4')) return 'int4'
  if (held.has('int8')) return 'int8'
  return held.has('bf16') ? 'bfloat16' : 'float32'
}

const bytesOf = (shape: readonly number[], size: number) => shape.reduce((a, b) => a * b, size)

function weightBytes({ weights }: ProgramSpec): number {
  return weights.reduce((bytes, weight) => bytes + weightSize(weight), 0)
}

function cacheBytes({ layers, pages, pageSize, kvHeads, headDim, dtype }: KvCacheOptions): number {
  return bytesOf([layers, pages, pageSize, 2, kvHeads, headDim], DTYPE_SIZE[dtype])
}

/** Compiles off the main thread, with progress and cancellation. */
function compile(
  device: NativeDevice,
  spec: ProgramSpec,
  o: ResolvedLoadOptions,
): Promise<NativeProgram> {
  const totalBytes = weightBytes(spec)
  return runWatched(control => device.compile(spec, control), {
    signal: o.signal,
    // Panels are padded, so that native counts a little more than the weights have.
    onProgress: done =>
      o.onProgress?.({ stage: 'load', doneBytes: Math.min(done, totalBytes), totalBytes }),
    discard: program => program.close(),
  })
}
