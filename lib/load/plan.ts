/** Plans a load from the headers of a checkpoint and the options alone. */
import type { KvCacheOptions } from '../addon/binding.js'
import type { Checkpoint } from '../checkpoint/checkpoint.js'
import { MoeppError } from '../errors.js'
import type { ModelDescription } from '../families/family.js'
import { recordModel } from '../families/record.js'
import { PAGE_SIZE } from '../model/runner.js'
import type { HeldType, ResolvedLoadOptions } from '../options/generate.js'
import { holdsQuantised, type ModelSpec, type RecordedWeight } from '../program/model-spec.js'
import type { Placement } from '../program/placement.js'
import { DTYPES, wordOf } from '../tensor/dtypes.js'
import type { DeviceTraits } from './device-traits.js'

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

/** The options' words for the types of matrices and of their inputs. */
export const MATRIX_DTYPES = { auto: 'exact', ...DTYPES, 'int4-all': 'int4-all' } as const

/** A model that is to be loaded. */
export interface LoadPlan {
  readonly description: ModelDescription
  readonly checkpoint: Checkpoint
  readonly options: ResolvedLoadOptions
  readonly spec: ModelSpec
  /** Of a rank of a group, whose spec has a part of the FFN experts alone. */
  readonly group?: {
    readonly placement: Placement
    /** The spec with all experts. */
    readonly whole: ModelSpec
  }
}

/** @throws MoeppError ERR_BAD_WEIGHTS, ERR_UNSUPPORTED */
export function planLoad(
  description: ModelDescription,
  checkpoint: Checkpoint,
  options: ResolvedLoadOptions,
  placement?: Placement,
): LoadPlan {
  const record = (among?: Placement): ModelSpec => ({
    ...recordModel(description, checkpoint, MATRIX_DTYPES[options.dtype], among),
    compute: MATRIX_DTYPES[options.activationDtype],
  })
  const whole = record()
  checkActivationDtype(whole, options)
  const plan = { description, checkpoint, options }
  if (!placement) return { ...plan, spec: whole }
  return { ...plan, spec: record(placement), group: { placement, whole } }
}

/** The plan on a device of a kind. A GPU holds float8 as it is stored, if the type is 'auto'. */
export function planOn(plan: LoadPlan, traits: DeviceTraits): LoadPlan {
  if (plan.options.dtype !== 'auto' || !traits.holdsFloat8) return plan
  const weights = plan.spec.weights.map(weight =>
    isFloat8(weight) ? { ...weight, dtype: 'float8' as const } : weight,
  )
  return { ...plan, spec: { ...plan.spec, weights } }
}

/**
 * The matrices of layers: not the embedding, from which rows are read, and not the head. The rows
 * of heads begin within a block.
 */
function isFloat8({ kind, parts }: RecordedWeight): boolean {
  const isOfLayer = kind === 'attention' || kind === 'ffnExperts' || kind === 'denseFfn'
  return isOfLayer && parts.every(({ dtype, rows }) => dtype === 'float8' && !rows)
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

export function contextLengthOf({
  description: { config },
  options,
}: Pick<LoadPlan, 'description' | 'options'>): number {
  return (
    options.contextLength ??
    Math.min(MOST_CONTEXT, Math.max(LEAST_CONTEXT, config.maxPositionEmbeddings))
  )
}

/**
 * The part of the cache that must fit in the memory available. If it takes its memory only as it is
 * used, only LEAST_CONTEXT tokens of a default size count.
 */
export function requiredCacheOf(plan: LoadPlan, traits: DeviceTraits): KvCacheOptions {
  const cache = cacheOf(plan, traits)
  const { kvCacheTokens, contextLength } = plan.options
  const isAsked = kvCacheTokens !== undefined || contextLength !== undefined
  if (traits.preallocatesCache || isAsked) return cache
  return { ...cache, pages: Math.min(cache.pages, LEAST_CONTEXT / PAGE_SIZE) }
}

export function cacheOf(plan: LoadPlan, traits: DeviceTraits): KvCacheOptions {
  const { spec, options } = plan
  const { kvCacheDtype, kvCacheTokens } = options
  const tokens = kvCacheTokens ?? Math.max(contextLengthOf(plan), CACHE_TOKENS)
  const byDefault = roundsMore(plan, traits) ? 'bf16' : 'f32'
  return {
    ...spec.cache,
    pages: Math.ceil(tokens / PAGE_SIZE) + traits.paddingPages,
    pageSize: PAGE_SIZE,
    dtype: kvCacheDtype === 'auto' ? byDefault : DTYPES[kvCacheDtype],
  }
}

/**
 * True if activations are rounded to bf16 or more coarsely in any case: a bf16 cache then costs
 * next to nothing. The option may ask for it. The CPU rounds the inputs of quantised matrices to
 * int8. A GPU's tensor cores round those of all matrices but f32 to bf16, and need a bf16 cache.
 */
function roundsMore({ spec, options }: LoadPlan, traits: DeviceTraits): boolean {
  const asked = options.activationDtype === 'bfloat16'
  return (
    asked ||
    holdsQuantised(spec) ||
    (traits.roundsBf16Inputs && spec.weights.some(w => w.dtype === 'bf16' || w.dtype === 'float8'))
  )
}

/** The type of the feed-forward networks, which are most of the weights, and of attention's. */
export function matrixTypeOf({ weights }: ModelSpec): HeldType {
  const ffn = weights.filter(({ kind }) => kind === 'ffnExperts' || kind === 'denseFfn')
  const held = new Set(ffn.map(({ dtype }) => dtype))
  if (held.has('int4') && weights.some(w => w.kind === 'attention' && w.dtype === 'int4'))
    return 'int4-all'
  if (held.has('float8')) return 'float8'
  return wordOf((['int4', 'int8', 'bf16'] as const).find(dtype => held.has(dtype)) ?? 'f32')
}
