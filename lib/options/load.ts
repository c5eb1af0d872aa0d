/** The options of loading. */
import { loadBinding } from '../addon/binding.js'
import { show } from '../base/json.js'
import {
  boolean,
  type Check,
  checkAll,
  integer,
  oneOf,
  signal,
  text,
  wrong,
} from '../base/option-checks.js'
import { MoeppError } from '../errors.js'
import type { DownloadProgress } from '../hub/repository.js'

/**
 * Progress of loadModel. A model of a hub is downloaded first (`stage: 'download'`), and files of
 * the cache that were not hashed before are (`stage: 'verify'`). Then the weights are read into the
 * device (`stage: 'load'`). Bytes are those of all files together.
 *
 * @example
 * ```ts
 * import { type LoadProgress, loadModel } from 'moepp'
 *
 * const show = ({ stage, doneBytes, totalBytes }: LoadProgress) =>
 *   console.log(stage, `${((100 * doneBytes) / totalBytes).toFixed()} %`)
 * const model = await loadModel('npm:moepp-books-7m', { onProgress: show })
 * ```
 */
export type LoadProgress = DownloadProgress | ReadProgress

/**
 * Progress of reading the weights into the device.
 *
 * @example
 * ```ts
 * import { loadModel, type ReadProgress } from 'moepp'
 *
 * const show = ({ doneBytes, totalBytes }: ReadProgress) => console.log(doneBytes / totalBytes)
 * const model = await loadModel('npm:moepp-books-7m', {
 *   onProgress: progress => {
 *     if (progress.stage === 'load') show(progress)
 *   },
 * })
 * ```
 */
export interface ReadProgress {
  /** Weights are read. */
  readonly stage: 'load'
  /** Bytes of the weights that have been read. */
  readonly doneBytes: number
  /** Bytes of all weights. */
  readonly totalBytes: number
}

/**
 * Options of `loadModel` and `estimateMemory`. An option that is undefined counts as not given.
 *
 * @example
 * ```ts
 * import { type LoadOptions, loadModel } from 'moepp'
 *
 * const options: LoadOptions = { device: 'cpu', dtype: 'int8', kvCacheTokens: 16384 }
 * const model = await loadModel('npm:moepp-books-7m', options)
 * ```
 */
export interface LoadOptions {
  /**
   * Device to run on; 'cuda' is 'cuda:0'. 'auto' is the first CUDA device if the model loads on it,
   * else the CPU. A GPU that is there but cannot be used causes a warning. With `parallel: 'nccl'`
   * both are the rank's own GPU: the first rank on a machine has the first one. Default 'auto'.
   */
  device?: 'auto' | 'cpu' | 'cuda' | `cuda:${number}`
  /**
   * Type of the weights on the device. 'auto' keeps bfloat16 as bfloat16, and packed matrices as
   * they are. A GPU keeps float8, too; on the CPU it becomes bfloat16. Everything else becomes
   * float32. 'int8' and 'int4' quantise while loading: 'int8' all matrices, 'int4' the FFN experts,
   * with attention and head in int8, 'int4-all' all of them. A checkpoint that `moepp convert` has
   * quantised opens with 'auto' or its own type. Default 'auto'.
   */
  dtype?: 'auto' | MatrixType
  /**
   * Type of the inputs of products with bfloat16 matrices. 'bfloat16' rounds them, as other engines
   * do, where the CPU then multiplies faster (instruction sets avx512bf16 and neonbf16). The KV
   * cache is then bfloat16 too, unless `kvCacheDtype` says otherwise. 'auto' keeps them float32 on
   * the CPU, so that products are exact. A GPU rounds them for many tokens in any case. Default
   * 'auto'.
   */
  activationDtype?: 'auto' | 'bfloat16'
  /**
   * Type of the KV cache. 'auto' is bfloat16 for quantised matrices, for bfloat16 on a GPU, and
   * with `activationDtype: 'bfloat16'`; else float32. Default 'auto'.
   */
  kvCacheDtype?: 'auto' | 'float32' | 'bfloat16'
  /**
   * Tokens of the longest sequence, prompt and text together, >= 1. Default: the model's
   * max_position_embeddings, but 4096 at least and 32768 at most. The KV cache must hold as many:
   * `kvCacheTokens` grows with it unless it is given, and what does not fit in memory is refused.
   * Past max_position_embeddings a model without RoPE scaling computes on, with one warning
   * (MOEPP_BEYOND_POSITIONS).
   */
  contextLength?: number
  /**
   * Instruction set of the CPU's kernels, one that `moepp doctor` lists. Sets differ in the last
   * bits of results: name one where another run, or another machine, must give the same. It asks
   * for the CPU: with 'auto' as the device no GPU is taken. Default 'auto': the first of that list,
   * unless a short measurement with `dtype` finds another clearly faster.
   */
  isa?: 'auto' | Isa
  /**
   * CPU threads, 1 to 1024; models with the same number share one pool. More threads than cores
   * are slower. Default: all cores available to the process (respects cgroups).
   */
  threads?: number
  /**
   * Tokens that the KV cache holds, of all sequences together, >= 1, rounded up to whole pages of
   * 64. Its memory is taken on demand on the CPU, up front on a GPU. Default: the context length,
   * but 8192 at least.
   */
  kvCacheTokens?: number
  /**
   * Refuse a model that does not fit into the memory available now, with ERR_OUT_OF_MEMORY and
   * before anything is read. MemoryEstimate.requiredBytes are those that count. Packed weights,
   * which are mapped, do not. false loads it anyway: a system that runs out of memory may then end
   * the process. Default true.
   */
  memoryCheck?: boolean
  /**
   * Runs one model on several processes together, its FFN experts spread over them. Each process
   * that mpirun has started loads the model with the same options. Rank 0 takes the calls; the
   * others serve it until it closes the model. 'mpi' is for the CPU, and needs `moepp build-mpi`
   * once. 'nccl' is for GPUs, one for each process: NCCL carries rows between them, and MPI all
   * else. Default: the model runs in this process alone. docs/parallel.md
   */
  parallel?: 'mpi' | 'nccl'
  /**
   * File that says which ranks hold each FFN expert; `moepp placement` makes it. Default: each rank
   * holds neighbouring experts, as equally many as possible.
   */
  placement?: string
  /**
   * Milliseconds that a rank waits for another one before all calls fail with ERR_PARALLEL, 100 to
   * 2147483647. Default 30000.
   */
  parallelDeadlineMs?: number
  /** Called now and then while the model loads. An exception in it ends the load. */
  onProgress?: (progress: LoadProgress) => void
  /** Ends the load early: it rejects with ERR_ABORTED. */
  signal?: AbortSignal
  /** Branch, tag or commit on the hub. Default: the hub's main branch. */
  revision?: string
  /** Access token of the hub. Default: HF_TOKEN, else what `hf auth login` stored. */
  token?: string
  /** Address of the hub, http or https. Default: HF_ENDPOINT, else https://huggingface.co. */
  endpoint?: string
  /** Directory of downloaded checkpoints. Default: HF_HUB_CACHE, else the cache of HF_HOME. */
  cacheDir?: string
}

/**
 * Types of the matrices on a device.
 *
 * @example
 * ```ts
 * import { estimateMemory, type MatrixType } from 'moepp'
 *
 * const types: MatrixType[] = ['float32', 'bfloat16', 'int8', 'int4', 'int4-all']
 * for (const dtype of types) {
 *   const { totalBytes } = await estimateMemory('npm:moepp-books-7m', { dtype })
 *   console.log(dtype, totalBytes)
 * }
 * ```
 */
export type MatrixType = 'float32' | 'bfloat16' | 'int8' | 'int4' | 'int4-all'

/**
 * Types that the matrices of a loaded model have. A GPU keeps stored float8 matrices with `dtype:
 * 'auto'`, and says 'float8'.
 *
 * @example
 * ```ts
 * import { estimateMemory, type HeldType } from 'moepp'
 *
 * const { dtype, device } = await estimateMemory('npm:moepp-books-7m')
 * const held: HeldType = dtype
 * console.log(`${held} on ${device}`)
 * ```
 */
export type HeldType = MatrixType | 'float8'

/** The most exact first. */
export const MATRIX_TYPES: readonly MatrixType[] = [
  'float32',
  'bfloat16',
  'int8',
  'int4',
  'int4-all',
]

/**
 * Instruction sets that a build may hold, and a processor may have.
 *
 * @example
 * ```ts
 * import { type Isa, loadModel } from 'moepp'
 *
 * const isa: Isa = 'scalar'
 * const model = await loadModel('npm:moepp-books-7m', { isa })
 * console.log(model.device.isa)
 * ```
 */
export type Isa =
  | 'amx'
  | 'avx512bf16'
  | 'avx512vnni'
  | 'avx512'
  | 'avxvnni'
  | 'avx2'
  | 'neonbf16'
  | 'neoni8mm'
  | 'neondot'
  | 'neon'
  | 'scalar'

/**
 * LoadOptions, checked; what is undefined is left to the part that knows the model, the device or
 * the hub.
 */
export interface ResolvedLoadOptions
  extends Readonly<
    Omit<
      LoadOptions,
      | 'device'
      | 'dtype'
      | 'activationDtype'
      | 'kvCacheDtype'
      | 'isa'
      | 'memoryCheck'
      | 'parallel'
      | 'parallelDeadlineMs'
    >
  > {
  readonly device: 'auto' | 'cpu' | `cuda:${number}`
  readonly dtype: 'auto' | MatrixType
  readonly activationDtype: 'auto' | 'bfloat16'
  readonly kvCacheDtype: 'auto' | 'float32' | 'bfloat16'
  /** If it is not 'auto', the device is 'cpu'. */
  readonly isa: 'auto' | Isa
  readonly memoryCheck: boolean
  /** With 'mpi' the device is 'cpu'; with 'nccl' it is a GPU, 'auto' the rank's own. */
  readonly parallel: 'mpi' | 'nccl' | undefined
  readonly parallelDeadlineMs: number
}

const DEADLINE_MS = 30_000

const loadChecks = {
  device,
  dtype: oneOf('auto', ...MATRIX_TYPES),
  activationDtype: oneOf('auto', 'bfloat16'),
  kvCacheDtype: oneOf('auto', 'float32', 'bfloat16'),
  contextLength: integer(1),
  isa,
  threads: integer(1, 1024),
  kvCacheTokens: integer(1),
  memoryCheck: boolean,
  parallel: oneOf('mpi', 'nccl'),
  placement: text,
  parallelDeadlineMs: integer(100, 2 ** 31 - 1),
  onProgress,
  signal,
  revision: text,
  token,
  endpoint,
  cacheDir: text,
} satisfies Record<keyof LoadOptions, Check<unknown, undefined>>

export function resolveLoadOptions(options: LoadOptions): ResolvedLoadOptions {
  const given = checkAll(options, loadChecks, undefined)
  const { device = 'auto', isa = 'auto' } = given
  if (isa !== 'auto' && device.startsWith('cuda')) {
    throw new RangeError(
      `isa: applies to the CPU only; expected "auto" with device ${show(device)}, got ${show(isa)}`,
    )
  }
  const { parallel } = given
  if (parallel) checkParallel(parallel, given)
  const ownGpu = parallel === 'nccl' && options.device === 'cuda'
  for (const name of ['placement', 'parallelDeadlineMs'] as const)
    if (given[name] !== undefined && !parallel)
      throw new RangeError(`${name}: expected with the option parallel, got it without`)
  return Object.freeze<ResolvedLoadOptions>({
    ...given,
    parallel,
    parallelDeadlineMs: given.parallelDeadlineMs ?? DEADLINE_MS,
    device: isa !== 'auto' || parallel === 'mpi' ? 'cpu' : ownGpu ? 'auto' : device,
    isa,
    dtype: given.dtype ?? 'auto',
    activationDtype: given.activationDtype ?? 'auto',
    kvCacheDtype: given.kvCacheDtype ?? 'auto',
    memoryCheck: given.memoryCheck ?? true,
  })
}

/** @throws MoeppError ERR_UNSUPPORTED */
function checkParallel(
  parallel: 'mpi' | 'nccl',
  { device = 'auto', isa = 'auto' }: Pick<LoadOptions, 'device' | 'isa'>,
): void {
  const isCpu = device === 'cpu' || isa !== 'auto'
  if (parallel === 'mpi' ? !device.startsWith('cuda') : !isCpu) return
  throw new MoeppError(
    'ERR_UNSUPPORTED',
    parallel === 'mpi'
      ? `parallel: 'mpi' runs on the CPU; expected device 'cpu' or 'auto', or parallel: 'nccl', got ${show(device)}`
      : `parallel: 'nccl' runs on GPUs; expected device 'cuda', or parallel: 'mpi', got ${show(isa === 'auto' ? device : isa)}`,
  )
}

function onProgress(value: unknown, name: string): (progress: LoadProgress) => void {
  if (typeof value !== 'function')
    throw new TypeError(`${name}: expected a function, got ${show(value)}`)
  return value as (progress: LoadProgress) => void
}

function device(value: unknown, name: string): ResolvedLoadOptions['device'] {
  if (value === 'auto') return value
  if (value === 'cuda') return 'cuda:0'
  if (typeof value !== 'string' || !loadBinding().isDeviceName(value)) {
    throw wrong(name, 'one of "auto", "cpu", "cuda", "cuda:N"', value, 'string')
  }
  return value as ResolvedLoadOptions['device']
}

/** One of the sets that this build has and this processor can run. */
function isa(value: unknown, name: string): 'auto' | Isa {
  if (value === 'auto') return value
  return oneOf('auto', ...(loadBinding().processor().isas as Isa[]))(value, name)
}

/** The value is a secret: no message shows it. */
function token(value: unknown, name: string): string {
  if (typeof value !== 'string' || value === '') {
    const got = value === '' ? '""' : `a value of type ${typeof value}`
    throw new TypeError(`${name}: expected a string that is not empty, got ${got}`)
  }
  return value
}

function endpoint(value: unknown, name: string): string {
  const url = typeof value === 'string' && URL.canParse(value) ? new URL(value) : undefined
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:') {
    throw wrong(name, 'an http or https address', value, 'string')
  }
  return value as string
}
