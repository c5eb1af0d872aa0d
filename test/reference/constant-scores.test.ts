/**
 * The captured scores of constant experts: their softmax is the share of the input that an expert
 * keeps, and that of its vector.
 */
import t from 'tap'
import { loadModel } from '../../lib/index.js'
import type { Isa } from '../../lib/options/generate.js'
import { devices, gpu } from '../support/devices.js'
import { difference, type Family, goldenCase } from '../support/golden.js'
import { newSequence } from './golden-sequence.js'
import { openCase } from './model-case.js'

/** With the factor of the experts' input. */
const CASES: readonly [Family, string, number][] = [
  ['moepp', 'odd-sizes', 1],
  ['moepp', 'mul-topk', 2],
  ['moepp', 'mixtral-nonorm', 1],
  ['qwen3_moe_plus_plus', 'constant', 1],
]

const EVERY = ['layers.*.*', 'hidden_states.*', 'final_hidden']

/** Of each pair of scores. */
function shares(scores: ArrayLike<number>, factor: number): number[] {
  return Array.from(scores, (score, i) => 1 / (1 + Math.exp(factor * (scores[i ^ 1]! - score))))
}

for (const [family, name, factor] of CASES) {
  for (const device of devices()) {
    t.test(`${family}/${name} on ${device}`, async t => {
      const { rows, moeLayers, tolerance } = openCase(family, name)
      const on = gpu ? ({ device: 'cuda:0', dtype: 'float32' } as const) : { isa: device as Isa }
      await using model = await loadModel(goldenCase(name, family), on)
      for (const { prompt } of rows) {
        const plain = await model.forward(prompt)
        const { captured, logits } = await model.forward(prompt, { capture: EVERY })
        t.same(logits, plain.logits, 'a capture changes no bit')
        const positions = newSequence(family, name).forward(prompt)
        for (const [m, layer] of moeLayers.entries()) {
          const want = positions.flatMap(({ constantShares }) => [...constantShares[m]!])
          const got = shares(captured[`layers.${layer}.constant_scores`]!, factor)
          t.ok(want.length > 0)
          t.equal(difference(got, want, tolerance.topk_weights!), '', `layer ${layer}`)
        }
      }
    })
  }
}

t.test('a model without constant experts has none to capture', async t => {
  await using model = await loadModel(goldenCase('dense-mixed', 'qwen3_moe'))
  await t.rejects(model.forward([1], { capture: ['layers.*.constant_scores'] }), {
    name: 'RangeError',
  })
})
