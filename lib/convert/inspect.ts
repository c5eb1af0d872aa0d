/** Describes a checkpoint and its memory from the headers alone: no tensor is read. */

import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { type CheckpointFormat, openCheckpoint } from '../checkpoint/checkpoint.js'
import { checkTensors } from '../checkpoint/names.js'
import {
  activeParameters,
  countParameters,
  evenFfnExperts,
  kvCacheBytes,
  modelParameters,
  type ParameterCounts,
  totalParameters,
  weightBytes,
} from '../checkpoint/parameters.js'
import { type ModelConfig, readConfig } from '../config.js'
import { type GenerationConfig, readGenerationConfig } from '../generation/generation-config.js'
import { cacheOf, planLoad } from '../load/plan.js'
import { type MatrixType, resolveLoadOptions } from '../options/load.js'
import { isPacked, type StoredRef, type WeightDType } from '../tensor/tensor-ref.js'

export interface ActiveParameters {
  /** Of a token's two picks in each layer, how many are FFN experts. */
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
    /** By the types that the KV cache can have. */
    readonly kvCacheBytesPer1024Tokens: Readonly<Record<KvCacheType, number>>
    /** The type that the KV cache has by default, on a CPU and on a GPU, by the matrices' type. */
    readonly kvCacheDtype: Readonly<Record<'cpu' | 'gpu', ByMatrixType<KvCacheType>>>
  }
  /** The model's tensors, in the order of the forward pass. */
  readonly tensors: readonly StoredTensorInfo[]
  /** Stored tensors that are no part of the model. */
  readonly otherTensors: readonly string[]
}

export async function inspectCheckpoint(directory: string): Promise<Inspection> {
  const config = await readConfig(directory)
  const checkpoint = await openCheckpoint(directory)
  const checked = checkTensors(config, checkpoint)
  const parameters = modelParameters(config, checkpoint)
  const byKind = countParameters(parameters)
  const active = (ffnExpertsPerToken: number): ActiveParameters => ({
    ffnExpertsPerToken,
    parameters: Math.round(activeParameters(config, ffnExpertsPerToken)),
  })
  const bytesByType = weightBytesByType(config, checked)
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
    config,
    generationConfig: await readGenerationConfig(directory),
    parameters: {
      total: totalParameters(byKind),
      byKind,
      activePerToken: {
        least: active(0),
        even: active(evenFfnExperts(config)),
        most: active(config.topK),
      },
    },
    memory: {
      weightBytes: bytesByType,
      kvCacheBytesPer1024Tokens: {
        float32: kvCacheBytes(config, 1024, 'f32'),
        bfloat16: kvCacheBytes(config, 1024, 'bf16'),
      },
      kvCacheDtype: {
        cpu: kvCacheDtypes(config, checked, bytesByType, false),
        gpu: kvCacheDtypes(config, checked, bytesByType, true),
      },
    },
    tensors: [...parameters].map(([name, { dtype, shape, file }]) => ({
      name,
      dtype,
      shape,
      file: basename(file),
    })),
    otherTensors: stored.filter(name => !parameters.has(name)),
  }
}

function weightBytesByType(
  config: ModelConfig,
  tensors: ReadonlyMap<string, StoredRef>,
): ByMatrixType<number> {
  const packed = new Set([...tensors.values()].filter(isPacked).map(({ dtype }) => dtype))
  if (packed.size > 0) {
    return { [packed.has('int4') ? 'int4' : 'int8']: weightBytes(config, tensors, 'exact') }
  }
  return {
    float32: weightBytes(config, tensors, 'f32'),
    bfloat16: weightBytes(config, tensors, 'bf16'),
    int8: weightBytes(config, tensors, 'int8'),
    int4: weightBytes(config, tensors, 'int4'),
  }
}

function kvCacheDtypes(
  config: ModelConfig,
  tensors: ReadonlyMap<string, StoredRef>,
  types: ByMatrixType<number>,
  onGpu: boolean,
): ByMatrixType<KvCacheType> {
  const dtypeOf = (dtype: MatrixType): KvCacheType => {
    const plan = planLoad(config, tensors, resolveLoadOptions({ dtype: loadDtype(types, dtype) }))
    return cacheOf(plan, onGpu).dtype === 'bf16' ? 'bfloat16' : 'float32'
  }
  return Object.fromEntries((Object.keys(types) as MatrixType[]).map(type => [type, dtypeOf(type)]))
}

/** The option that loads a checkpoint as `type`: a packed one has no choice. */
export function loadDtype(types: ByMatrixType<unknown>, type: MatrixType): 'auto' | MatrixType {
  return Object.keys(types).length === 1 ? 'auto' : type
}
