/**
 * The f64 references against the golden data: prompts, then greedy steps one by one. The data is
 * f32 compute and its tolerance 16 times that error, so an eighth of it is enough here.
 */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  caseNames,
  FAMILIES,
  type Family,
  goldenCase,
  readGolden,
  readJson,
} from '../support/golden.js'
import { type Decoder, likeliest, type Position, type Row, type Weights } from './decoder-f64.js'
import { FamilySequence, familyConfig } from './families-f64.js'
import {
  compareForward,
  compareGreedy,
  compareStepLogits,
  type Forwarded,
  openCase,
  STEPS,
} from './model-case.js'
import { ReferenceSequence, referenceConfig } from './model-f64.js'

/** Torch's files, and f16, are not read here. */
function isReadable(family: Family, name: string): boolean {
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

function newSequence(family: Family, name: string): Decoder {
  const directory = goldenCase(name, family)
  const json = readJson<Record<string, unknown>>(join(directory, 'config.json'))
  const weights = readWeights(directory)
  return family === 'moepp'
    ? new ReferenceSequence(referenceConfig(json), weights, 'f64')
    : new FamilySequence(familyConfig(json), weights, 'f64')
}

/** Positions as `forward` returns them. */
function forwarded(positions: readonly Position[], moeLayers: readonly number[]): Forwarded {
  const joined = (row: (position: Position) => ArrayLike<number>) =>
    positions.flatMap(position => Array.from(row(position)))
  const captured: Record<string, number[]> = { final_hidden: joined(p => p.finalHidden) }
  for (const l of positions[0]!.hidden.keys())
    captured[`hidden_states.${l}`] = joined(p => p.hidden[l]!)
  for (const [m, layer] of moeLayers.entries()) {
    captured[`layers.${layer}.moe_output`] = joined(p => p.moeOutput[m]!)
    captured[`layers.${layer}.router_logits`] = joined(p => p.routerLogits[m]!)
    captured[`layers.${layer}.expert_indices`] = joined(p => p.picks[m]!.experts)
    captured[`layers.${layer}.expert_weights`] = joined(p => p.picks[m]!.weights)
  }
  return { logits: joined(p => p.logits), captured }
}

for (const family of FAMILIES) {
  for (const name of caseNames(family).filter(name => isReadable(family, name))) {
    t.test(`${family}/${name}`, async t => {
      const c = openCase(family, name, 1 / 8)
      for (const row of c.rows) {
        const sequence = newSequence(family, name)
        const positions = sequence.forward(row.prompt)
        compareForward(t, c, row, forwarded(positions, c.moeLayers))
        const tokenIds = [likeliest(positions.at(-1)!)]
        while (tokenIds.length < STEPS) {
          positions.push(...sequence.forward([tokenIds.at(-1)!]))
          tokenIds.push(likeliest(positions.at(-1)!))
        }
        const layers = c.moeLayers.map((_, m) => ({
          expertIndices: positions.flatMap(position => position.picks[m]!.experts),
          expertWeights: positions.flatMap(position => position.picks[m]!.weights),
        }))
        compareGreedy(t, c, row, { tokenIds, routing: { layers } }, 'f64')
        compareStepLogits(t, c, row, step => positions[row.prompt.length - 1 + step]!.logits)
      }
    })
  }
}
