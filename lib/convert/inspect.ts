/** Describes a checkpoint and its memory from the headers alone: no tensor is read. */

import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { type Checkpoint, type CheckpointFormat, openCheckpoint } from '../checkpoint/checkpoint.js'
import type { ModelConfig, ModelDescription } from '../families/family.js'
import { recordModel } from '../families/record.js'
import { readModel } from '../families/registry.js'
import { type GenerationConfig, readGenerationConfig } from '../generation/generation-config.js'
import { DEVICE_TRAITS, type DeviceTraits } from '../load/device-traits.js'
import { cacheOf, MATRIX_DTYPES, matrixTypeOf, planLoad } from '../load/plan.js'
import { MATRIX_TYPES, type MatrixType, resolveLoadOptions } from '../options/load.js'
import {
  activeParameters,
  cacheBytes,
  countParameters,
  evenFfnPicks,
  type FfnPicks,
  meanFfnPicks,
  mostFfnPicks,
  type ParameterCounts,
  parametersOf,
  type Router,
  routersOf,
  storedNames,
  tableBytes,
  totalParameters,
  weightBytes,
} from '../program/model-spec.js'
import { wordOf } from '../tensor/dtypes.js'
import type { StoredRef, WeightDType } from '../tensor/tensor-ref.js'

export interface ActiveParameters {
  /** Mean over the layers with experts. */
  readonly ffnExpertsPerToken: number
  readonly parameters: number
}

export interface StoredTensorInfo {
  readonly name: string
  readonly dtype: WeightDType
  readonly shape: readonly number[]
  /** Name of the file in the checkpoint. */
  readonly file: string
}

export type KvCacheType = 'float32' | 'bfloat16'

/** One value for each type of the matrices. A packed checkpoint has its own type alone. */
export type ByMatrixType<T> = Readonly<Partial<Record<MatrixType, T>>>

export interface Inspection {
  readonly directory: string
  readonly format: CheckpointFormat
  readonly files: readonly { readonly name: string; readonly bytes: number }[]
  readonly config: ModelConfig
  /** Words on the router. */
  readonly routerNotes: readonly string[]
  /** Layers with experts. */
  readonly routers: readonly Router[]
  /** Layers for multi-token prediction that are stored. They are not loaded. */
  readonly predictionLayers: number
  readonly generationConfig: GenerationConfig
  readonly parameters: {
    readonly total: number
    readonly byKind: ParameterCounts
    readonly activePerToken: {
      readonly least: ActiveParameters
      /** If all experts were picked equally often. */
      readonly even: ActiveParameters
      readonly most: ActiveParameters
    }
  }
  readonly memory: {
    /** By the types that the matrices can be held in: of a packed checkpoint, its own. */
    readonly weightBytes: ByMatrixType<number>
    /** Of tables that stay in the checkpoint's files: no part of weightBytes. */
    readonly tableBytes: number
    /** By the types that the KV cache can have. */
    readonly kvCacheBytesPer1024Tokens: Readonly<Record<KvCacheType, number>>
    /** The type that the KV cache has by default, on a CPU and on a GPU, by the matrices' type. */
    readonly kvCacheDtype: Readonly<Record<'cpu' | 'gpu', ByMatrixType<KvCacheType>>>
  }
  /** The model's tensors, in the order of the forward pass; scales follow their tensor. */
  readonly tensors: readonly StoredTensorInfo[]
  /** Stored tensors that are no part of the model. */
  readonly otherTensors: readonly string[]
}

export async function inspectCheckpoint(directory: string): Promise<Inspection> {
  const description = await readModel(directory)
  const checkpoint = await openCheckpoint(directory)
  const spec = recordModel(description, checkpoint, 'exact')
  const known = storedNames(spec)
  const byKind = countParameters(spec)
  const active = (picks: FfnPicks): ActiveParameters => ({
    ffnExpertsPerToken: meanFfnPicks(spec, picks),
    parameters: Math.round(activeParameters(spec, picks)),
  })
  const bytesByType = weightBytesByType(description, checkpoint)
  const stored = [
    ...checkpoint.tensors.keys(),
    ...checkpoint.packed.keys(),
    ...checkpoint.unusable.keys(),
  ]
  return {
    directory: checkpoint.directory,
    format: checkpoint.format,
    files: await Promise.all(
      checkpoint.files.map(async file => ({
        name: basename(file),
        bytes: (await stat(file)).size,
      })),
    ),
    config: description.config,
    routerNotes: description.routerNotes,
    routers: routersOf(spec),
    predictionLayers: predictionLayers(description, stored),
    generationConfig: await readGenerationConfig(directory),
    parameters: {
      total: totalParameters(byKind),
      byKind,
      activePerToken: {
        least: active(() => 0),
        even: active(evenFfnPicks),
        most: active(mostFfnPicks),
      },
    },
    memory: {
      weightBytes: bytesByType,
      tableBytes: tableBytes(spec),
      kvCacheBytesPer1024Tokens: {
        float32: cacheBytes(spec.cache, 1024, 'f32'),
        bfloat16: cacheBytes(spec.cache, 1024, 'bf16'),
      },
      kvCacheDtype: {
        cpu: kvCacheDtypes(description, checkpoint, bytesByType, DEVICE_TRAITS.cpu),
        gpu: kvCacheDtypes(description, checkpoint, bytesByType, DEVICE_TRAITS.cuda),
      },
    },
    tensors: [...parametersOf(spec)].flatMap(([name, { ref }]) => [
      tensorInfo(name, ref),
      ...('scale' in ref && ref.scale ? [tensorInfo(ref.scale.name, ref.scale)] : []),
    ]),
    otherTensors: stored.filter(name => !known.has(name)),
  }
}

function predictionLayers(
  { predictionLayer = () => undefined }: ModelDescription,
  stored: readonly string[],
): number {
  return new Set(stored.map(predictionLayer).filter(layer => layer !== undefined)).size
}

function tensorInfo(name: string, { dtype, shape, file }: StoredRef): StoredTensorInfo {
  return { name, dtype, shape, file: basename(file) }
}

function weightBytesByType(
  description: ModelDescription,
  checkpoint: Checkpoint,
): ByMatrixType<number> {
  const bytes = (type: 'auto' | MatrixType) =>
    weightBytes(recordModel(description, checkpoint, MATRIX_DTYPES[type]))
  if (checkpoint.packed.size > 0) {
    const held = matrixTypeOf(recordModel(description, checkpoint, MATRIX_DTYPES.auto))
    return { [held]: bytes('auto') }
  }
  return Object.fromEntries(MATRIX_TYPES.map(type => [type, bytes(type)]))
}

function kvCacheDtypes(
  description: ModelDescription,
  checkpoint: Checkpoint,
  types: ByMatrixType<number>,
  traits: DeviceTraits,
): ByMatrixType<KvCacheType> {
  const dtypeOf = (dtype: MatrixType): KvCacheType => {
    const plan = planLoad(
      description,
      checkpoint,
      resolveLoadOptions({ dtype: loadDtype(types, dtype) }),
    )
    return wordOf(cacheOf(plan, traits).dtype)
  }
  return Object.fromEntries((Object.keys(types) as MatrixType[]).map(type => [type, dtypeOf(type)]))
}

/** The option that loads a checkpoint as `type`: a packed one has no choice. */
export function loadDtype(types: ByMatrixType<unknown>, type: MatrixType): 'auto' | MatrixType {
  return Object.keys(types).length === 1 ? 'auto' : type
}
