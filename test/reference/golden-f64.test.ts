/**
 * The f64 references against the golden data: prompts, then greedy steps one by one. The data is
 * f32 compute and its tolerance 16 times that error, so an eighth of it is enough here.
 */
import t from 'tap'
import { caseNames, FAMILIES } from '../support/golden.js'
import { likeliest, type Position } from './decoder-f64.js'
import { isReadable, newSequence } from './golden-sequence.js'
import {
  compareForward,
  compareGreedy,
  compareStepLogits,
  type Forwarded,
  openCase,
  STEPS,
} from './model-case.js'

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
