/** Surveys of the golden models beside plain loops over what the authors' code has recorded. */
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { routing } from '../../lib/index.js'
import type { LayerAgreement, LayerStatistics } from '../../lib/routing/types.js'
import { readValues } from '../checkpoint/files.js'
import { type Case, openCase } from '../reference/model-case.js'
import { difference, type Family, goldenCase, readJson, type Tolerance } from '../support/golden.js'
import { letters } from './character-tokenizer.js'
import { loadSmall, surveyOf } from './surveyed.js'

const CASES: readonly (readonly [Family, string])[] = [
  ['moepp', 'gqa'],
  ['moepp', 'real7b-bf16'],
  ['moepp', 'gate-norm-std'],
  ['moepp', 'mixtral-norm'],
  ['moepp', 'tied-bin'],
  ['qwen3_moe', 'dense-one'],
  ['qwen3_moe', 'all-experts'],
  ['qwen3_moe_plus_plus', 'constant'],
  ['qwen3_moe_plus_plus', 'all-zero-picks'],
  ['mixtral', 'sliding-headdim'],
]

/** One layer of one row: picks and logits of its real tokens. */
interface Recorded {
  readonly experts: readonly number[][]
  readonly weights: readonly number[][]
  readonly logits: readonly number[][]
}

/** Values [M, B, T, n] of layer m and row b from column `start` on. */
function recordedRows({ data }: Case, name: string, m: number, b: number, start: number) {
  const { shape, data: values } = data.values(name)
  const [, B, T, n] = shape as [number, number, number, number]
  return Array.from({ length: T - start }, (_, t) => {
    const at = ((m * B + b) * T + start + t) * n
    return Array.from(values.subarray(at, at + n))
  })
}

function recorded(golden: Case, m: number, b: number, start: number): Recorded {
  return {
    experts: recordedRows(golden, 'topk_indices', m, b, start),
    weights: recordedRows(golden, 'topk_weights', m, b, start),
    logits: recordedRows(golden, 'router_logits', m, b, start),
  }
}

/** A sum's tolerance: that of each of its numbers, whose rest is relative. */
const times = ({ atol, rtol }: Tolerance, count: number) => ({ atol: atol * count, rtol })

for (const [family, name] of CASES) {
  t.test(`${family}/${name}`, async t => {
    const golden = openCase(family, name)
    const directory = goldenCase(name, family)
    const small = await loadSmall(directory)
    t.teardown(() => small.model.close())
    const characters = letters(small.model.config.vocabSize)
    for (const { b, start, prompt } of golden.rows) {
      const text = prompt.map(id => characters[id]).join('')
      const { subject, rows } = await surveyOf(small, text, { windowTokens: prompt.length })
      t.same([...rows[0]!.tokens], prompt)
      t.same(
        subject.layers.map(({ layer }) => layer),
        golden.moeLayers,
      )
      const all = golden.moeLayers.map((_, m) => recorded(golden, m, b, start))
      for (const [m, layer] of subject.layers.entries()) checkCounts(t, golden, layer, all[m]!)
      for (const [m, pair] of subject.agreement.entries())
        checkAgreement(t, subject.layers[m]!.kinds, pair, all[m]!, all[m + 1]!)
      await checkScores(t, golden, directory, subject.layers, all)
    }
  })
}

function checkCounts(t: Test, { tolerance, topK }: Case, layer: LayerStatistics, all: Recorded) {
  const picks = layer.kinds.map(() => 0)
  const weights = layer.kinds.map(() => 0)
  const ffn = new Array<number>(topK + 1).fill(0)
  for (const [token, experts] of all.experts.entries()) {
    let count = 0
    for (const [k, expert] of experts.entries()) {
      picks[expert]!++
      weights[expert]! += all.weights[token]![k]!
      if (layer.kinds[expert] === 'ffn' && all.weights[token]![k]! > 0) count++
    }
    ffn[count]!++
  }
  t.same(layer.picks, picks)
  t.same(layer.ffnExperts, ffn)
  const near = times(tolerance.topk_weights!, all.experts.length)
  t.equal(difference(layer.weights, weights, near), '')
}

function checkAgreement(
  t: Test,
  kinds: LayerStatistics['kinds'],
  { same, expected, ffnCorrelation }: LayerAgreement,
  a: Recorded,
  b: Recorded,
) {
  const K = a.experts[0]!.length
  const shared = a.experts.map((picks, i) => picks.filter(e => b.experts[i]!.includes(e)).length)
  t.ok(near(same, mean(shared) / K))
  const load = ({ experts }: Recorded, e: number) =>
    mean(experts.map(picks => Number(picks.includes(e))))
  t.ok(near(expected, kinds.reduce((sum, _, e) => sum + load(a, e) * load(b, e), 0) / K))
  const [x, y] = [a, b].map(({ experts, weights }) =>
    experts.map(
      (picks, i) => picks.filter((e, k) => kinds[e] === 'ffn' && weights[i]![k]! > 0).length,
    ),
  ) as [number[], number[]]
  const deviations = (values: number[]) => values.map(value => value - mean(values))
  const product = (p: number[], q: number[]) => mean(p.map((value, i) => value * q[i]!))
  const [dx, dy] = [deviations(x), deviations(y)]
  if (product(dx, dx) < 1e-12 || product(dy, dy) < 1e-12) t.equal(ffnCorrelation, null)
  else t.ok(near(ffnCorrelation!, product(dx, dy) / Math.sqrt(product(dx, dx) * product(dy, dy))))
}

async function checkScores(
  t: Test,
  { tolerance }: Case,
  directory: string,
  layers: readonly LayerStatistics[],
  all: readonly Recorded[],
) {
  const config = readJson<Record<string, unknown>>(join(directory, 'config.json'))
  const normStd = config.moe_use_logits_norm ? (config.moe_gate_norm_std as number) : 0
  const { tensors } = await openCheckpoint(directory)
  const { atol, rtol } = tolerance.router_logits!
  for (const [m, { router, layer, kinds }] of layers.entries()) {
    const { logits } = all[m]!
    const largest = Math.max(...logits.flat().map(Math.abs))
    const apart = atol + rtol * largest
    const P = logits.map(row => softmax(scaled(row, normStd)))
    // A logit that is off by d changes a probability by d / 2 at most, times the scale.
    const scale = normStd === 0 ? 1 : Math.max(...logits.map(row => normStd / deviation(row)))
    const sums = kinds.map((_, e) => P.reduce((sum, row) => sum + row[e]!, 0))
    const loose = { atol: 4 * apart * scale * logits.length, rtol: 0 }
    t.equal(difference(router!.probabilities, sums, loose), '', `layer ${layer}`)
    const entropies = P.map(row => routing.entropy(row))
    const bits = entropies.reduce((a, b) => a + b, 0)
    const bound = 4 * loose.atol * kinds.length
    t.ok(Math.abs(router!.entropy - bits) <= bound, `${router!.entropy} is near ${bits}`)
    checkMoments(t, router!.scores, logits.flat(), apart)
    const map = tensors.get(`model.layers.${layer}.mlp.moe.gate.gate_map.weight`)
    t.equal(router!.ownScores !== undefined, map !== undefined && m > 0)
    if (!router!.ownScores) continue
    const E = kinds.length
    const G = readValues(map!)
    const own = logits.map((row, i) =>
      row.map(
        (R, e) => R - all[m - 1]!.logits[i]!.reduce((sum, R1, j) => sum + G[e * E + j]! * R1, 0),
      ),
    )
    const gain =
      1 +
      Math.max(
        ...kinds.map((_, e) => G.slice(e * E, (e + 1) * E).reduce((s, g) => s + Math.abs(g), 0)),
      )
    checkMoments(t, router!.ownScores, own.flat(), apart * gain)
  }
}

/** `apart`: by which each value may be off. */
function checkMoments(
  t: Test,
  got: { count: number; mean: number; variance: number; least: number; most: number },
  values: number[],
  apart: number,
) {
  const middle = mean(values)
  const variance = mean(values.map(value => (value - middle) ** 2))
  t.equal(got.count, values.length)
  for (const [name, value] of [
    ['mean', middle],
    ['least', Math.min(...values)],
    ['most', Math.max(...values)],
  ] as const)
    t.ok(Math.abs(got[name] - value) <= apart, `${name} ${got[name]}, expected ${value}`)
  t.ok(Math.abs(got.variance - variance) <= 4 * apart * (Math.sqrt(variance) + apart), 'variance')
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

function near(got: number, want: number): boolean {
  return Math.abs(got - want) < 1e-9
}

/** Unbiased. */
function deviation(row: readonly number[]): number {
  const middle = mean(row)
  return Math.sqrt(row.reduce((sum, z) => sum + (z - middle) ** 2, 0) / (row.length - 1))
}

function scaled(row: readonly number[], normStd: number): number[] {
  return row.map(z => (normStd === 0 ? z : (z * normStd) / deviation(row)))
}

function softmax(row: readonly number[]): number[] {
  const powers = row.map(z => Math.exp(z - Math.max(...row)))
  const sum = powers.reduce((a, b) => a + b, 0)
  return powers.map(power => power / sum)
}
