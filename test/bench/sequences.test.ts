import t from 'tap'
import { Sequences, tokenAt } from '../../lib/benchmark/sequences.js'
import { loadModel, type Model } from '../../lib/index.js'
import { loadParts } from '../../lib/load/load.js'
import { resolveLoadOptions } from '../../lib/options/generate.js'
import { BOOKS } from '../cli/run-cli.js'

/** The model's own forward of the tokens [from, to) of sequence b. */
async function routingOf(model: Model, b: number, from: number, to: number) {
  const { layers, vocabSize, ffnExperts } = model.config
  const tokens = Array.from({ length: to }, (_, p) => tokenAt(b, p, vocabSize))
  const { captured } = await model.forward(tokens, { capture: ['layers.*.expert_indices'] })
  return Array.from({ length: layers }, (_, layer) =>
    [...captured[`layers.${layer}.expert_indices`]!]
      .slice(2 * from)
      .filter(expert => expert < ffnExperts),
  )
}

t.test('steps send the tokens where the model does', async t => {
  const { runner, config } = await loadParts(
    BOOKS,
    resolveLoadOptions({ device: 'cpu', contextLength: 700 }),
  )
  const model = await loadModel(BOOKS, { device: 'cpu', contextLength: 700 })
  t.teardown(async () => {
    await runner.close()
    await model.close()
  })
  const sequences = new Sequences(runner, [700, 60, 60])

  t.test('prefill longer than a step', async t => {
    const { picks } = await sequences.prefillRouting(1, 600)
    const expected = await routingOf(model, 0, 0, 600)
    t.equal(picks, expected.flat().length)
  })

  t.test('prefill of several sequences in one step', async t => {
    const { picks, touched } = await sequences.prefillRouting(3, 20)
    const each = await Promise.all([0, 1, 2].map(b => routingOf(model, b, 0, 20)))
    t.equal(picks, each.flat(2).length)
    let distinct = 0
    for (let layer = 0; layer < config.layers; layer++)
      distinct += new Set(each.flatMap(one => one[layer]!)).size
    t.equal(touched, distinct)
  })

  t.test('decode of several sequences after a context', async t => {
    await sequences.fill(3, 40)
    const steps = await sequences.decodeRouting(3, 40, 2)
    t.equal(steps.length, 2)
    for (const [i, { picks, touched }] of steps.entries()) {
      const each = await Promise.all([0, 1, 2].map(b => routingOf(model, b, 40 + i, 41 + i)))
      t.equal(picks, each.flat(2).length)
      let distinct = 0
      for (let layer = 0; layer < config.layers; layer++) {
        distinct += new Set(each.flatMap(one => one[layer]!)).size
      }
      t.equal(touched, distinct)
    }
  })
})

t.test('tokens are of the vocabulary and differ', async t => {
  const tokens = Array.from({ length: 4000 }, (_, i) => tokenAt(i % 4, i >> 2, 50000))
  t.ok(tokens.every(token => Number.isInteger(token) && token >= 0 && token < 50000))
  t.ok(new Set(tokens).size > 3700)
})
