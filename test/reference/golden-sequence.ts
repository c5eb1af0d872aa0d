/** The f64 references on the golden models. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Family, goldenCase, isLatentFamily, readGolden, readJson } from '../support/golden.js'
import type { Decoder, Matrix, Weights } from './decoder-f64.js'
import { FamilySequence, familyConfig } from './families-f64.js'
import { headParts, LatentSequence, latentConfig } from './latent-f64.js'
import { ReferenceSequence, referenceConfig } from './model-f64.js'

/** Torch's files, and f16, are not read here. */
export function isReadable(family: Family, name: string): boolean {
  const { weights } = readJson<{ weights: { format: string; dtype: string } }>(
    join(goldenCase(name, family), 'case.json'),
  )
  return weights.format.startsWith('safetensors') && weights.dtype !== 'float16'
}

function readMatrices(directory: string): Matrix[] {
  const files = readdirSync(directory).filter(file => /^model.*\.safetensors$/.test(file))
  return files.flatMap(file => {
    const tensors = readGolden(join(directory, file))
    return tensors.names.map(name => {
      const { shape, data } = tensors.values(name)
      return { name, shape, values: Float64Array.from(data) }
    })
  })
}

const weightsOf = (matrices: readonly Matrix[]): Weights => ({
  tensors: new Map(matrices.map(({ name, values }) => [name, values])),
  quantised: new Set(),
})

/** A text of the model. */
export function newSequence(family: Family, name: string): Decoder {
  const directory = goldenCase(name, family)
  const json = readJson<Record<string, unknown>>(join(directory, 'config.json'))
  const matrices = readMatrices(directory)
  if (isLatentFamily(family)) {
    const config = latentConfig(json)
    const weights = weightsOf(matrices.flatMap(matrix => headParts(matrix, config)))
    return new LatentSequence(config, weights, 'f64')
  }
  return family === 'moepp'
    ? new ReferenceSequence(referenceConfig(json), weightsOf(matrices), 'f64')
    : new FamilySequence(familyConfig(json), weightsOf(matrices), 'f64')
}
