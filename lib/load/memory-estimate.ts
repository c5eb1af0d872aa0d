/** Estimates the memory of a model, and suggests options when there is too little. */
import { availableParallelism } from 'node:os'
import type { DeviceInfo, KvCacheOptions, ProgramSpec } from '../addon/binding.js'
import type { Checkpoint } from '../checkpoint/checkpoint.js'
import { MoeppError } from '../errors.js'
import { PAGE_SIZE } from '../model/runner.js'
import { type HeldType, MATRIX_TYPES, type MatrixType } from '../options/load.js'
import { cacheBytes, tableBytes, weightBytes } from '../program/model-spec.js'
import { stepBytes } from '../program/step-bytes.js'
import { wordOf } from '../tensor/dtypes.js'
import { isPacked } from '../tensor/tensor-ref.js'
import { availableMemory, permitted } from './available-memory.js'
import { type DeviceTraits, logitRowsOf, stepTokensOf, traitsOf } from './device-traits.js'
import {
  cacheOf,
  contextLengthOf,
  type LoadPlan,
  matrixTypeOf,
  planLoad,
  planOn,
  requiredCacheOf,
} from './plan.js'

/**
 * Memory of a model on a device, in bytes, without the program's own. On a CPU the peak of loading
 * and generating is within 10 % and 16 MB of it.
 *
 * @example
 * ```ts
 * import { estimateMemory, type MemoryEstimate } from 'moepp'
 *
 * const estimate: MemoryEstimate = await estimateMemory('npm:moepp-books-7m', { dtype: 'int8' })
 * console.log(`weights ${estimate.weightBytes}, KV cache ${estimate.kvCacheBytes} bytes`)
 * ```
 */
export interface MemoryEstimate {
  /** Device that the model would run on: `cpu` or `cuda:0`. */
  readonly device: string
  /** The type that most weights would be held in. */
  readonly dtype: HeldType
  /** Type of the KV cache. */
  readonly kvCacheDtype: 'float32' | 'bfloat16'
  /** Tokens of the longest sequence. */
  readonly contextLength: number
  /** Tokens that the KV cache holds, in whole pages of 64. */
  readonly kvCacheTokens: number
  /** All weights on the device. */
  readonly weightBytes: number
  /**
   * Of weightBytes, those of packed weights on the CPU. They are used from the mapped file: the
   * system can drop them when memory is short, and read them again.
   */
  readonly mappedBytes: number
  /**
   * Tables that stay in the checkpoint's files, whatever the device: those of n-grams. No part of
   * weightBytes or totalBytes. A step reads some rows of them. The system keeps these pages while
   * it has memory to spare.
   */
  readonly tableBytes: number
  /**
   * The whole KV cache. The CPU takes its memory as it is used, a GPU at once. requiredBytes may
   * count less of it.
   */
  readonly kvCacheBytes: number
  /**
   * Working memory of a step. On the CPU: a step of 512 tokens of one prompt, and the threads' own
   * buffers. Each further text of the same step takes 4 * vocabSize more, as does each row of
   * logits of `forward`, `score` and `promptLogprobs`, up to 128 MiB. On a GPU: a step of 2048
   * tokens with the logits of each, up to 512 MiB, and 128 MiB for the driver. Products with bf16
   * inputs make it less. Captured buffers take more on either.
   */
  readonly stepBytes: number
  /** All of it: weightBytes + kvCacheBytes + stepBytes. */
  readonly totalBytes: number
  /**
   * Loading is refused if less is available. On the CPU totalBytes - mappedBytes, with 4096 tokens
   * of KV cache at most unless `kvCacheTokens` or `contextLength` was given. On a GPU the weights
   * and the KV cache, which are allocated up front.
   */
  readonly requiredBytes: number
  /**
   * Memory available now. On the CPU: free memory, page cache and swap, within the limits of the
   * control group. On a GPU: its free memory.
   */
  readonly availableBytes: number
  /** True if requiredBytes are available. */
  readonly fits: boolean
}

/** A device to estimate for. */
export interface Place {
  readonly name: string
  readonly availableBytes: number
}

/** An open device, as it is now. One without memory of its own uses the host's. */
export function placeOf({ name, totalBytes, freeBytes }: DeviceInfo): Place {
  return { name, availableBytes: totalBytes > 0 ? freeBytes : availableMemory() }
}

export function estimate(planned: LoadPlan, place: Place): MemoryEstimate {
  const traits = traitsOf(place)
  const plan = planOn(planned, traits)
  const { spec } = plan
  const cache = cacheOf(plan, traits)
  const bytes = {
    weightBytes: weightBytes(spec),
    mappedBytes: traits.mapsPacked ? mappedBytes(spec) : 0,
    tableBytes: tableBytes(spec),
    kvCacheBytes: bytesOf(cache),
    stepBytes: estimatedStepBytes(plan, traits),
  }
  const totalBytes = bytes.weightBytes + bytes.kvCacheBytes + bytes.stepBytes
  const laterBytes = bytes.kvCacheBytes - bytesOf(requiredCacheOf(plan, traits))
  const optionalBytes = traits.estimatedStep === 'largest' ? bytes.stepBytes : 0
  const requiredBytes = totalBytes - bytes.mappedBytes - laterBytes - optionalBytes
  return {
    device: place.name,
    dtype: matrixTypeOf(spec),
    kvCacheDtype: wordOf(cache.dtype),
    contextLength: contextLengthOf(plan),
    kvCacheTokens: cache.pages * cache.pageSize,
    ...bytes,
    totalBytes,
    requiredBytes,
    availableBytes: place.availableBytes,
    fits: requiredBytes <= place.availableBytes,
  }
}

function bytesOf(cache: KvCacheOptions): number {
  return cacheBytes(cache, cache.pages * cache.pageSize, cache.dtype)
}

/** A weight of several packed parts is copied instead. */
function mappedBytes({ weights }: ProgramSpec): number {
  const packed = weights.flatMap(({ parts: [only, more] }) =>
    only && !more && isPacked(only) ? only : [],
  )
  return packed.reduce((bytes, part) => bytes + part.byteLength, 0)
}

/** The largest step has as many rows of logits as a step may have: `forward` wants them. */
function estimatedStepBytes(plan: LoadPlan, traits: DeviceTraits): number {
  const isLargest = traits.estimatedStep === 'largest'
  const { pages, pageSize } = cacheOf(plan, traits)
  const most = isLargest ? (pages - traits.paddingPages) * pageSize : contextLengthOf(plan)
  const ranks = plan.group?.placement.size ?? 1
  const T = Math.min(stepTokensOf(traits, ranks), most)
  const sizes = { T, R: 1, B: 1, M: Math.ceil(T / PAGE_SIZE), P: ranks * T }
  const buffers = stepBytes(plan.spec, sizes, traits.fusesRotation)
  // A result, which no other buffer shares memory with.
  const { vocabSize } = plan.description.config
  const rows = Math.min(T, logitRowsOf(traits, vocabSize))
  const logits = isLargest ? 4 * rows * vocabSize : 0
  const threads = plan.options.threads ?? permitted(availableParallelism, 1)
  return buffers + logits + threads * traits.threadBytes + traits.driverBytes
}

/**
 * Refuses a model that does not fit, before anything is read.
 * @throws MoeppError ERR_OUT_OF_MEMORY
 */
export function checkMemory(plan: LoadPlan, place: Place): void {
  if (!plan.options.memoryCheck) return
  const needed = estimate(plan, place)
  if (needed.fits) return
  const cache = requiredCacheOf(plan, traitsOf(place))
  const what = remedies(plan, place, needed)
  const missing = needed.requiredBytes - needed.availableBytes
  throw new MoeppError(
    'ERR_OUT_OF_MEMORY',
    `the model does not fit on ${needed.device}: it needs ${gib(needed.requiredBytes)} (${parts(needed, cache)}), ` +
      `${gib(needed.availableBytes)} are available, ${gib(missing)} are missing. ` +
      `${what.length > 0 ? `These would fit: ${what.join('; ')}` : 'No dtype would fit'}. ` +
      'memoryCheck: false loads it anyway',
  )
}

function parts({ dtype, kvCacheDtype, ...bytes }: MemoryEstimate, cache: KvCacheOptions): string {
  const weights = bytes.weightBytes - bytes.mappedBytes
  return (
    `weights in ${dtype} ${gib(weights)}, KV cache of ${cache.pages * cache.pageSize} tokens in ${kvCacheDtype} ` +
    `${gib(bytesOf(cache))}, a step ${gib(bytes.stepBytes)}`
  )
}

/** Fewer tokens than these are no use to anybody. */
const LEAST_CACHE_TOKENS = 512

/** Options with which the model fits, as a caller would write them. */
function remedies(plan: LoadPlan, place: Place, needed: MemoryEstimate): string[] {
  const { description, checkpoint, options } = plan
  const found: string[] = []
  const smaller = cacheTokensThatFit(plan, needed)
  if (smaller !== undefined) found.push(`kvCacheTokens: ${smaller}`)
  for (const dtype of smallerDtypes(checkpoint, needed.dtype)) {
    const other = { ...options, dtype, activationDtype: 'auto' } as const
    const otherPlan = planLoad(description, checkpoint, other, plan.group?.placement)
    const changed = estimate(otherPlan, place)
    const size = `(${gib(changed.requiredBytes)})`
    const tokens = cacheTokensThatFit(otherPlan, changed)
    if (changed.fits) return [...found, `dtype: '${dtype}' ${size}`]
    if (tokens !== undefined && smaller === undefined)
      return [...found, `dtype: '${dtype}' with kvCacheTokens: ${tokens}`]
  }
  return found
}

/** Types that take less, the most exact first. Packed weights cannot be held in another. */
function smallerDtypes({ packed }: Checkpoint, held: HeldType): MatrixType[] {
  if (packed.size > 0) return []
  if (held === 'float8') return MATRIX_TYPES.slice(MATRIX_TYPES.indexOf('int8'))
  return MATRIX_TYPES.slice(MATRIX_TYPES.indexOf(held) + 1)
}

/** The size of a smaller cache that fits; undefined if it would be too small to use. */
function cacheTokensThatFit(plan: LoadPlan, e: MemoryEstimate): number | undefined {
  const cache = requiredCacheOf(plan, traitsOf({ name: e.device }))
  const bytes = bytesOf(cache)
  const room = e.availableBytes - (e.requiredBytes - bytes)
  const tokens = Math.floor(room / (bytes / cache.pages)) * cache.pageSize
  const isUseful = tokens >= Math.min(LEAST_CACHE_TOKENS, e.contextLength)
  return isUseful && tokens < cache.pages * cache.pageSize ? tokens : undefined
}

const gib = (bytes: number) =>
  bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`
