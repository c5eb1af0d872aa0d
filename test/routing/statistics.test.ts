/** The pure functions, on numbers that are worked out by hand. */
import t, { type Test } from 'tap'
import { type LayerRouting, routing } from '../../lib/index.js'
import type { ExpertKind } from '../../lib/program/expert-kinds.js'
import { momentsOf } from '../../lib/routing/moments.js'
import type { LayerStatistics } from '../../lib/routing/types.js'
import { random } from '../support/random.js'

const KINDS: readonly ExpertKind[] = ['ffn', 'ffn', 'constant', 'copy', 'zero']

function layerOf(
  experts: readonly number[],
  { layer = 3, topK = 2, kinds = KINDS, weights = experts.map(() => 0.5) } = {},
): LayerRouting {
  return {
    layer,
    topK,
    kinds,
    expertIndices: Int32Array.from(experts),
    expertWeights: Float32Array.from(weights),
  }
}

const statisticsOf = (...layer: Parameters<typeof layerOf>) => routing.statistics(layerOf(...layer))

t.test('counts of picks, weights and FFN experts', async t => {
  const weights = [0.75, 0.25, 1, 0, 0.5, 0.5, 0.5, 0.5]
  const got = statisticsOf([0, 1, 0, 1, 2, 4, 3, 1], { weights })
  t.same(got, {
    layer: 3,
    tokens: 4,
    topK: 2,
    kinds: KINDS,
    picks: [2, 3, 1, 1, 1],
    weights: [1.75, 0.75, 0.5, 0.5, 0.5],
    // The second token's second weight is 0.
    ffnExperts: [1, 2, 1],
  })
  t.same(routing.loads(got), [0.5, 0.75, 0.25, 0.25, 0.25])
  t.same(routing.shares(got), { ffn: 5 / 8, constant: 1 / 8, copy: 1 / 8, zero: 1 / 8 })
})

t.test('probabilities, entropy and moments of the logits', async t => {
  const ln = Math.log
  const kinds: readonly ExpertKind[] = ['ffn', 'ffn', 'zero']
  const layer = layerOf([0, 1], { topK: 1, kinds })
  const logits = Float32Array.of(ln(2), ln(1), ln(1), 0, 0, 0)
  const { router } = routing.statistics(layer, {
    logits,
    ownLogits: Float64Array.of(1, 1, 1, 1, 1, 1),
  })
  close(t, router!.probabilities, [1 / 2 + 1 / 3, 1 / 4 + 1 / 3, 1 / 4 + 1 / 3])
  close(t, [router!.entropy], [1.5 + Math.log2(3)])
  const mean = ln(2) / 6
  close(t, [router!.scores.mean, router!.scores.variance], [mean, ln(2) ** 2 / 6 - mean ** 2])
  t.same(router!.ownScores, { count: 6, mean: 1, variance: 0, least: 1, most: 1 })

  const masked = routing.statistics(layer, { logits, masked: true }).router!
  close(t, masked.probabilities, [2 / 3 + 1 / 2, 1 / 3 + 1 / 2, 0])
  const scaled = routing.statistics(layer, { logits, normStd: 2 }).router!
  // Deviations of (a, 0, 0) from their mean: a sqrt(1/3) with E - 1. Equal logits stay.
  const power = Math.exp(2 * Math.sqrt(3))
  close(t, scaled.probabilities, [
    power / (power + 2) + 1 / 3,
    1 / (power + 2) + 1 / 3,
    1 / (power + 2) + 1 / 3,
  ])
})

t.test('a softmax of large logits does not overflow', async t => {
  const layer = layerOf([0], { topK: 1, kinds: ['ffn', 'ffn'] })
  const { router } = routing.statistics(layer, { logits: Float32Array.of(3e38, -3e38) })
  t.same(router!.probabilities, [1, 0])
  t.equal(router!.entropy, 0)
})

t.test('tokens whose logits are not finite are left out, and told', async t => {
  const kinds: readonly ExpertKind[] = ['ffn', 'zero']
  const [good, bad] = [
    [Math.log(3), 0],
    [0, 1],
  ]
  for (const wrong of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    const layer = layerOf([0, 1, 0], { topK: 1, kinds, weights: [0.5, Number.NaN, 0.25] })
    const logits = Float32Array.of(...good!, 0, wrong, ...good!)
    const ownLogits = Float64Array.of(...bad!, wrong, 0, ...bad!)
    const got = routing.statistics(layer, { logits, ownLogits })
    t.same(
      [got.picks, got.weights, got.ffnExperts],
      [
        [2, 1],
        [0.75, 0],
        [1, 2],
      ],
    )
    const alone = routing.statistics(layerOf([0, 0], { topK: 1, kinds }), {
      logits: Float32Array.of(...good!, ...good!),
      ownLogits: Float64Array.of(...bad!, ...bad!),
    })
    t.same(got.router, alone.router)
    close(t, [routing.balance(got).loss!], [(2 / 3) * (3 / 4) + 0.75 * (1 / 3) * (1 / 4)])
    t.match(routing.findings([got]), [{ kind: 'broken-router', layer: 3, text: /: 1 of 3 tokens/ }])
  }
  const none = routing.statistics(layerOf([0], { topK: 1, kinds }), {
    logits: new Float32Array(2).fill(Number.NaN),
  })
  t.equal(none.router!.scores.count, 0)
  t.equal(routing.balance(none).loss, null)
})

t.test('merged parts are the whole', async t => {
  const next = random(1)
  const T = 60
  const experts = Array.from({ length: 2 * T }, (_, i) =>
    i % 2 === 0 ? Math.floor(next() * 2) : 2 + Math.floor(next() * 3),
  )
  const weights = experts.map(() => Math.fround(next()))
  const logits = Float32Array.from({ length: 5 * T }, () => 1000 + next())
  const part = (from: number, to: number) =>
    routing.statistics(
      layerOf(experts.slice(2 * from, 2 * to), { weights: weights.slice(2 * from, 2 * to) }),
      { logits: logits.slice(5 * from, 5 * to), ownLogits: logits.slice(5 * from, 5 * to) },
    )
  const whole = part(0, T)
  const merged = [part(0, 0), part(0, 7), part(7, 8), part(8, T)].reduce(routing.merge)
  t.same(
    { ...merged, weights: [], router: null },
    { ...whole, weights: [], router: null },
    'counts are equal',
  )
  close(t, merged.weights, whole.weights)
  close(t, merged.router!.probabilities, whole.router!.probabilities)
  for (const key of ['scores', 'ownScores'] as const) {
    const [got, want] = [merged.router![key]!, whole.router![key]!]
    close(t, Object.values(got), Object.values(want))
  }
  const { router: _, ...bare } = whole
  t.notOk('router' in routing.merge(bare, whole), 'both must have it')
  for (const other of [
    { layer: 4 },
    { topK: 1 },
    { kinds: ['ffn', 'ffn', 'copy', 'copy', 'zero'] },
  ])
    t.throws(() => routing.merge(whole, { ...whole, ...other } as LayerStatistics), RangeError)
})

t.test('moments of numbers far from 0', async t => {
  const values = Float64Array.of(1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16)
  t.same(momentsOf(values), {
    count: 4,
    mean: 1e9 + 10,
    variance: 22.5,
    least: 1e9 + 4,
    most: 1e9 + 16,
  })
})

t.test('balance, in its four figures', async t => {
  const kinds: readonly ExpertKind[] = ['ffn', 'ffn', 'ffn', 'zero']
  const logits = new Float32Array(4 * 4)
  const layer = routing.statistics(layerOf([0, 0, 1, 3], { topK: 1, kinds }), { logits })
  const got = routing.balance(layer)
  // f = (2, 1, 0, 1) / 4, P = 1 / 4, eta = (1, 1, 1, 0.75).
  close(t, [got.loss!], [(0.5 + 0.25 + 0.75 * 0.25) / 4])
  // Loads 2, 1, 0: mean 1.
  close(t, [got.variation!, got.violation!], [Math.sqrt(2 / 3), 1])
  close(t, [got.entropy!], [1.5 / 2])
  close(t, [routing.balance(layer, 0).loss!], [0.75 / 4])
  const even = routing.statistics(layerOf([0, 1, 2, 3], { topK: 1, kinds }), { logits })
  close(t, Object.values(routing.balance(even, 1)), [1 / 4, 0, 0, 1])
  for (const tau of [-1, Number.NaN, Number.POSITIVE_INFINITY])
    t.throws(() => routing.balance(even, tau), RangeError)
})

t.test('figures that are not defined are null', async t => {
  const none = { loss: null, variation: null, violation: null, entropy: null }
  const empty = routing.statistics(layerOf([]), { logits: new Float32Array(0) })
  t.same(routing.balance(empty), none)
  t.same(routing.loads(empty), [0, 0, 0, 0, 0])
  t.same(routing.shares(empty), { ffn: 0, constant: 0, copy: 0, zero: 0 })
  const one = statisticsOf([0, 0], { topK: 1, kinds: ['ffn'] })
  t.same(routing.balance(one), { loss: null, variation: 0, violation: 0, entropy: null })
  const noFfn = statisticsOf([0, 1], { topK: 1, kinds: ['copy', 'zero'] })
  t.same(routing.balance(noFfn), { ...none, entropy: 1 })
  const unused = statisticsOf([1, 1], { topK: 1, kinds: ['ffn', 'zero'] })
  t.same(routing.balance(unused), { ...none, entropy: 0 })
})

t.test('entropy of shares', async t => {
  t.equal(routing.entropy([]), 0)
  t.equal(routing.entropy([0, 0]), 0)
  t.equal(routing.entropy([0, 9]), 0)
  t.equal(routing.entropy([3, 3]), 1)
  close(t, [routing.entropy([2, 1, 1])], [1.5])
  for (const wrong of [-1, Number.NaN, Number.POSITIVE_INFINITY])
    t.throws(() => routing.entropy([1, wrong]), { name: 'RangeError', message: /numbers\[1\]/ })
})

t.test('agreement of two layers', async t => {
  const a = layerOf([0, 1, 2, 3])
  const same = routing.agreement(a, layerOf([1, 0, 3, 2], { layer: 5 }))
  t.equal(same.layer, 3)
  t.equal(same.nextLayer, 5)
  t.equal(same.same, 1)
  // Each of four experts is picked by half of the tokens in both layers.
  t.equal(same.expected, (4 * 0.25) / 2)
  t.equal(same.information, 1, 'first choices decide each other')
  t.equal(same.ffnCorrelation, 1)
  const other = routing.agreement(a, layerOf([2, 4, 0, 1]))
  t.equal(other.same, 0)
  t.equal(other.ffnCorrelation, -1)
  const half = routing.agreement(layerOf([0, 1, 0, 1]), layerOf([0, 2, 1, 4]))
  t.equal(half.same, 0.5)
  t.equal(half.information, 0, 'the first choice of the first layer never varies')
  t.equal(half.ffnCorrelation, null)
  t.same(routing.agreement(layerOf([]), layerOf([])), {
    layer: 3,
    nextLayer: 3,
    same: 0,
    expected: 0,
    information: 0,
    ffnCorrelation: null,
  })
  t.throws(() => routing.agreement(a, layerOf([0, 1])), RangeError, 'other tokens')
})

t.test('agreement of layers that differ in experts and picks', async t => {
  // First choices 0, 1, 2, 4 and 0, 2, 2, 1; the second layer picks 2 twice.
  const a = layerOf([0, 1, 1, 2, 2, 3, 4, 0])
  const b = layerOf([0, 2, 2, 1], { topK: 1, kinds: ['ffn', 'zero', 'ffn'], layer: 4 })
  const got = routing.agreement(a, b)
  t.equal(got.same, 3 / 4, 'of one pick')
  t.equal(got.expected, (2 * 1 + 2 * 1 + 2 * 2) / 16)
  t.equal(got.information, 1.5, 'the first choice tells the other: its entropy')
  const back = routing.agreement(b, a)
  t.same([back.same, back.expected, back.information], [3 / 4, 8 / 16, 1.5])
  // FFN experts 2, 1, 0, 1 and 1, 1, 1, 0.
  t.equal(got.ffnCorrelation, 0)
})

t.test('means with intervals', async t => {
  t.same(routing.interval([]), { count: 0, mean: 0, halfWidth: null })
  t.same(routing.interval([3]), { count: 1, mean: 3, halfWidth: null })
  t.same(routing.interval([2, 2, 2]), { count: 3, mean: 2, halfWidth: 0 })
  // Published quantiles of Student's t for 0.975: R 4, qt(0.975, n - 1).
  const quantiles = [12.7062, 4.30265, 3.18245, 2.77645, 2.57058, 2.44691, 2.36462, 2.306, 2.26216]
  for (const [i, quantile] of [...quantiles, [30, 2.04227], [1000, 1.96234]].entries()) {
    const [freedom, want] = Array.isArray(quantile) ? quantile : [i + 1, quantile]
    // n values with standard deviation s: half of them 1, half -1, and a 0 if n is odd.
    const n = freedom! + 1
    const values = Array.from({ length: n }, (_, k) =>
      n % 2 === 1 && k === 0 ? 0 : k % 2 ? 1 : -1,
    )
    const s = Math.sqrt((n - (n % 2)) / (n - 1))
    const { mean, halfWidth } = routing.interval(values)
    t.equal(mean, 0)
    t.ok(
      Math.abs((halfWidth! * Math.sqrt(n)) / s - want!) < 2e-4,
      `${freedom} degrees: ${halfWidth}`,
    )
  }
  t.throws(() => routing.interval([1, Number.NaN]), RangeError)
})

t.test('wrong arrays are named', async t => {
  for (const [layer, message] of [
    [layerOf([0, 1, 2]), /multiple of topK/],
    [layerOf([0, 5]), /expertIndices\[1\]: expected 0 to 4, got 5/],
    [layerOf([-1, 0]), /expertIndices\[0\]/],
    [layerOf([0, 1], { weights: [1] }), /expertWeights: expected 2/],
    [layerOf([0, 1], { topK: 0 }), /topK/],
  ] as const)
    t.throws(() => routing.statistics(layer), { name: 'RangeError', message })
  t.throws(() => routing.statistics(layerOf([0, 1]), { logits: new Float32Array(4) }), RangeError)
})

function close(t: Test, got: readonly number[], want: readonly number[]): void {
  t.equal(got.length, want.length)
  for (const [i, value] of want.entries()) {
    const near = Math.abs(got[i]! - value) <= 1e-6 * Math.max(1e-3, Math.abs(value))
    t.ok(near, `[${i}] is ${got[i]}, expected ${value}`)
  }
}
