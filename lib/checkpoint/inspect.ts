/** What a checkpoint is and needs, from its headers alone: no tensor is read. */

import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import {
  type GenerationConfig,
  type ModelConfig,
  readConfig,
  readGenerationConfig,
} from '../config.js'
import type { MatrixType } from '../options.js'
import { type CheckpointFormat, openCheckpoint } from './checkpoint.js'
import { checkTensors } from './names.js'
import {
  activeParameters,
  countParameters,
  evenFfnExperts,
  kvCacheBytes,
  modelParameters,
  type ParameterCounts,
  totalParameters,
  weightBytes,
} from './parameters.js'
import { isPacked, type StoredRef, type WeightDType } from './tensor-ref.js'

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
    readonly weightBytes: Readonly<Partial<Record<MatrixType, number>>>
    readonly kvCacheBytesPer1024Tokens: Readonly<Record<'float32' | 'bfloat16', number>>
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
      weightBytes: weightBytesByType(config, checked),
      kvCacheBytesPer1024Tokens: {
        float32: kvCacheBytes(config, 1024, 'f32'),
        bfloat16: kvCacheBytes(config, 1024, 'bf16'),
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
): Partial<Record<MatrixType, number>> {
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
