/** The sentences of a report's page, and its joined vocabularies. */
import t from 'tap'
import type { Cost, MeanInterval, Subject, VocabularyEntry } from '../../lib/routing/types.js'
import { surveyed } from './fixture.js'

// Their types are a browser's, which tests do not have: `tsc -p lib/page` checks them.
const page = '../../lib/routing/page'
const { facts }: { facts: (subject: Subject) => string[] } = await import(`${page}/facts.js`)
const { savings }: { savings: (cost: Cost) => string } = await import(`${page}/charts/costs.js`)
const {
  joined,
}: {
  joined: (
    vocabularies: readonly (readonly VocabularyEntry[])[],
  ) => { text: string; experts: (MeanInterval | undefined)[] }[]
} = await import(`${page}/vocabulary.js`)

const { subject } = surveyed({ tokens: 500, layers: 3, topK: 2, experts: { ffn: 4, zero: 2 } })
const interval = (mean: number, count = 10): MeanInterval => ({ count, mean, halfWidth: 0.1 })
const entry = (token: number, text: string, mean: number): VocabularyEntry => ({
  ...{ token, text, ffnExperts: interval(mean) },
})

t.test('layers and tokens that stand out', async t => {
  const layer = (number: number, ffnExperts: number[]) => ({
    ...subject.layers[0]!,
    ...{ layer: number, tokens: 100, ffnExperts },
  })
  const vocabulary = Array.from({ length: 12 }, (_, i) => entry(i, ` t${i}`, 2 - i / 10))
  const rare = { token: 99, text: 'rare', ffnExperts: interval(2, 9) }
  const sentences = facts({
    ...subject,
    ...{ ffnExperts: interval(1.25), cost: null, vocabulary: [rare, ...vocabulary] },
    layers: [layer(1, [10, 50, 40]), layer(3, [0, 20, 80]), layer(5, [30, 60, 10])],
  })
  t.same(sentences, [
    'A token takes 1.25 of 2 FFN experts, as a mean of layers.',
    'Layer 3 uses most FFN experts, 1.80 a token, and layer 5 fewest, 0.80.',
    'In layer 5, 30.0\u00a0% of the tokens have no FFN expert at all.',
    'Dearest tokens: ␣t0 2.00, ␣t1 1.90, ␣t2 1.80, ␣t3 1.70, ␣t4 1.60.',
    'Cheapest: ␣t11 0.90, ␣t10 1.00, ␣t9 1.10, ␣t8 1.20, ␣t7 1.30. All occur 10 times or more.',
  ])
})

t.test('a model without a choice', async t => {
  const { subject } = surveyed({
    ...{ tokens: 500, layers: 3, topK: 2, experts: { ffn: 4 }, hasCost: false },
  })
  t.same(facts(subject), ['A token takes 2.00 of 2 FFN experts, as a mean of layers.'])
})

t.test('less, more and the same', async t => {
  const side = (operations: number, bytes: number, prefill: number, decode: number) => ({
    ...{ ffnExperts: 1, operations, bytes, predicted: null, measured: { prefill, decode } },
  })
  const cost = { model: side(75, 100, 9, 11), twin: side(100, 100, 10, 10), ceilings: null }
  const work =
    'Beside its vanilla twin, the model does 25.0 % fewer operations, and a decode step reads as ' +
    'many bytes.'
  const times = ' As measured, prefill takes 10.0 % less time, and decode 10.0 % more.'
  t.equal(savings(cost), work + times)
  t.equal(savings({ ...cost, twin: { ...cost.twin, measured: null } }), work)
})

t.test('two tokenizers number the same text differently', async t => {
  const first = [entry(7, ' and', 1.5), entry(8, '\n', 1), entry(9, '\n', 0.5)]
  const second = [entry(3, ' and', 1.25), entry(8, '\n', 0.75), entry(1, ' or', 1)]
  t.same(
    joined([first, second]).map(({ text, experts }) => [text, ...experts.map(each => each?.mean)]),
    [
      [' and', 1.5, 1.25],
      ['\n', 1, 0.75],
      ['\n', 0.5, undefined],
      [' or', undefined, 1],
    ],
  )
})
