/** Guesses change no bit: golden models, types of weights and instruction sets. */
import t from 'tap'
import { loadBinding } from '../../lib/addon/binding.js'
import type { Isa, LoadOptions } from '../../lib/index.js'
import { MATRIX_TYPES } from '../../lib/options/load.js'
import { caseNames, FAMILIES, goldenCase } from '../support/golden.js'
import { compareGuesses } from './compare-guesses.js'

const TYPES: readonly LoadOptions[] = [
  ...MATRIX_TYPES.map(dtype => ({ dtype })),
  { dtype: 'bfloat16', activationDtype: 'bfloat16' },
]
const isas = loadBinding().processor().isas as readonly Isa[]
const ways: readonly LoadOptions[] = isas.flatMap(isa =>
  TYPES.map(type => ({ ...type, isa, device: 'cpu' })),
)
const cases = FAMILIES.flatMap(family => caseNames(family).map(name => ({ family, name })))

// All of both, and not each of the one with each of the other: that takes minutes.
for (let i = 0; i < Math.max(ways.length, cases.length); i++) {
  const { family, name } = cases[i % cases.length]!
  const way = ways[i % ways.length]!
  t.test(`${family}/${name}: ${Object.values(way).join(' ')}`, async t => {
    await compareGuesses(t, goldenCase(name, family), way)
  })
}
