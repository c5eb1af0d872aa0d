/** Plans a load from the headers of a checkpoint and the options alone. */
import type { KvCacheOptions } from '../addon/binding.js'
import type { Checkpoint } from '../checkpoint/checkpoint.js'
import { MoeppError } from '../errors.js'
import type { ModelDescription } from '../families/family.js'
import { recordModel } from '../families/record.js'
import { PAGE_SIZE } from '../model/runner.js'
import type { MatrixType, ResolvedLoadOptions } from '../options/generate.js'
import { holdsQuantised, type ModelSpec } from '../program/model-spec.js'

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
export const maxStepTokens = (onGpu: boolean) =>
  onGpu ? MOST_GPU_STEP_TOKENS : MOST_CPU_STEP_TOKENS

const CACHE_DTYPES = { auto: undefined, float32: 'f32', bfloat16: 'bf16' } as const

/** Types that hold the matrices. */
export const MATRIX_DTYPES = {
  auto: 'exact',
  float32: 'f32',
  bfloat16: 'bf16',
  int8: 'int8',
  int4: 'int4',
  'int4-all': 'int4-all',
} as const

/** A model that is to be loaded. */
export interface LoadPlan {
  readonly description: ModelDescription
  readonly checkpoint: Checkpoint
  readonly options: ResolvedLoadOptions
  readonly spec: ModelSpec
}

/** @throws MoeppError ERR_BAD_WEIGHTS, ERR_UNSUPPORTED */
export function planLoad(
  description: ModelDescription,
  checkpoint: Checkpoint,
  options: ResolvedLoadOptions,
): LoadPlan {
  const rounds = options.activationDtype === 'bfloat16'
  const spec = recordModel(description, checkpoint, MATRIX_DTYPES[options.dtype], rounds)
  checkActivationDtype(spec, options)
  return { description, checkpoint, options, spec }
}

/** Only inputs of matrices in bf16 may be rounded to bf16. */
function checkActivationDtype(spec: ModelSpec, { activationDtype }: ResolvedLoadOptions): void {
  const held = matrixTypeOf(spec)
  if (activationDtype === 'auto' || held === activationDtype) return
  throw new MoeppError(
    'ERR_UNSUPPORTED',
    `activationDtype: expected "auto" for matrices in ${held}, got "${activationDtype}"; it rounds the inputs of bfloat16 matrices only`,
  )
}

export function contextLengthOf({ description: { config }, options }: LoadPlan): number {
  return (
    options.contextLength ??
    Math.min(MOST_CONTEXT, Math.max(LEAST_CONTEXT, config.maxPositionEmbeddings))
  )
}

/** Pages of the cache that no sequence has: see model/padding.ts. */
export const paddingPages = (onGpu: boolean) => (onGpu ? 1 : 0)

/**
 * The part of the cache that must fit in the memory available. The CPU takes it only as it is used,
 * so that of a default size only LEAST_CONTEXT tokens count.
 */
export function requiredCacheOf(plan: LoadPlan, onGpu: boolean): KvCacheOptions {
  const cache = cacheOf(plan, onGpu)
  const { kvCacheTokens, contextLength } = plan.options
  const isAsked = kvCacheTokens !== undefined || contextLength !== undefined
  if (onGpu || isAsked) return cache
  return { ...cache, pages: Math.min(cache.pages, LEAST_CONTEXT / PAGE_SIZE) }
}

export function cacheOf(plan: LoadPlan, onGpu: boolean): KvCacheOptions {
  const { spec, options } = plan
  const tokens = options.kvCacheTokens ?? Math.max(contextLengthOf(plan), CACHE_TOKENS)
  return {
    ...spec.cache,
    pages: Math.ceil(tokens / PAGE_SIZE) + paddingPages(onGpu),
    pageSize: PAGE_SIZE,
    dtype: CACHE_DTYPES[options.kvCacheDtype] ?? (roundsMore(plan, onGpu) ? 'bf16' : 'f32'),
  }
}

/**
 * True if activations are rounded to bf16 or more coarsely in any case: a bf16 cache then costs
 * next to nothing. The option may ask for it. The CPU rounds the inputs of quantised matrices to
 * int8. A GPU's tensor cores round those of all matrices but f32 to bf16, and need a bf16 cache.
 */
function roundsMore({ spec, options }: LoadPlan, onGpu: boolean): boolean {
  const asked = options.activationDtype === 'bfloat16'
  return (
    asked || holdsQuantised(spec) || (onGpu && spec.weights.some(({ dtype }) => dtype === 'bf16'))
  )
}

/** The type of the feed-forward networks, which are most of the weights, and of attention's. */
export function matrixTypeOf({ weights }: ModelSpec): MatrixType {
  const ffn = weights.filter(({ kind }) => kind === 'ffnExperts' || kind === 'denseFfn')
  const held = new Set(ffn.map(({ dtype }) => dtype))
  if (held.has('int4')) {
    const attention = weights.filter(({ kind }) => kind === 'attention')
    return attention.some(({ dtype }) => dtype === 'int4') ? 'int4-all' : 'int4'
  }
  if (held.has('int8')) return 'int8'
  return held.has('bf16') ? 'bfloat16' : 'float32'
}
