/** The f64 references on the golden models. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { type Family, goldenCase, readGolden, readJson } from '../support/golden.js'
import type { Decoder, Row, Weights } from './decoder-f64.js'
import { FamilySequence, familyConfig } from './families-f64.js'
import { ReferenceSequence, referenceConfig } from './model-f64.js'

/** Torch's files, and f16, are not read here. */
export function isReadable(family: Family, name: string): boolean {
  const { weights } = readJson<{ weights: { format: string; dtype: string } }>(
    join(goldenCase(name, family), 'case.json'),
  )
  return weights.format.startsWith('safetensors') && weights.dtype !== 'float16'
}

function readWeights(directory: string): Weights {
  const all = new Map<string, Row>()
  const files = readdirSync(directory).filter(file => /^model.*\.safetensors$/.test(file))
  for (const tensors of files.map(file => readGolden(join(directory, file)))) {
    for (const name of tensors.names) all.set(name, Float64Array.from(tensors.values(name).data))
  }
  return { tensors: all, quantised: new Set() }
}

/** A text of the model. */
export function newSequence(family: Family, name: string): Decoder {
  const directory = goldenCase(name, family)
  const json = readJson<Record<string, unknown>>(join(directory, 'config.json'))
  const weights = readWeights(directory)
  return family === 'moepp'
    ? new ReferenceSequence(referenceConfig(json), weights, 'f64')
    : new FamilySequence(familyConfig(json), weights, 'f64')
}
