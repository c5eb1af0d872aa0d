/**
 * A model whose router is set by hand gives the planted picture. Attention and FFN experts give 0,
 * so each token stays what its embedding is: one of three classes, a unit vector each.
 */
import { join } from 'node:path'
import t from 'tap'
import { routing } from '../../lib/index.js'
import { costOf } from '../../lib/routing/cost.js'
import { loadSmall, plantedCheckpoint, surveyOf } from './surveyed.js'

const H = 8
const EXPERTS = 8
/** FFN experts 0 to 3, constant 4 and 5, copy 6, zero 7. */
const [COPY, ZERO] = [6, 7]
/** By class: the experts that a token of it picks, the first one first. */
type Picks = readonly (readonly [number, number])[]
const BY_CLASS: Picks = [
  [0, 1],
  [0, COPY],
  [COPY, ZERO],
]
const all = (a: number, b: number): Picks => [
  [a, b],
  [a, b],
  [a, b],
]
/** Of each layer; null: the logits of the layer before. */
const LAYERS: readonly (Picks | null)[] = [BY_CLASS, null, all(2, 3), all(COPY, ZERO)]

const CHARACTERS = [...'adgjmpsv beh.k1']
const classOf = (id: number) => id % 3
const CONFIG = {
  architectures: ['MoeForCausalLM'],
  vocab_size: CHARACTERS.length,
  hidden_size: H,
  intermediate_size: 8,
  num_hidden_layers: LAYERS.length,
  num_attention_heads: 1,
  num_experts: [EXPERTS],
  moe_2layer_gate: false,
  moe_feature_no_mul_topk: true,
}

function planted(name: string, shape: readonly number[]): Float32Array | undefined {
  const values = new Float32Array(shape.reduce((a, b) => a * b, 1))
  const layer = Number(/layers\.(\d+)/.exec(name)?.[1] ?? -1)
  const picks = LAYERS[layer]
  if (name === 'model.embed_tokens.weight')
    for (let id = 0; id < CHARACTERS.length; id++) values[id * H + classOf(id)] = 1
  else if (name.endsWith('gate.wg.weight') && picks) {
    // A normed unit vector has sqrt(H) at its place: logits of 10, 9, and 0.
    for (const [c, chosen] of picks.entries())
      for (const [k, expert] of chosen.entries()) values[expert * H + c] = (10 - k) / Math.sqrt(H)
  } else if (name.endsWith('gate_map.weight') && picks === null)
    for (let e = 0; e < EXPERTS; e++) values[e * EXPERTS + e] = 1
  else return undefined
  return values
}

const TEXT = CHARACTERS.join('').repeat(40)
const T = TEXT.length
const directory = plantedCheckpoint(join(t.testdir(), 'planted'), CONFIG, planted)
const small = await loadSmall(directory, CHARACTERS)
t.teardown(() => small.model.close())
const { subject, rows } = await surveyOf(small, TEXT)

t.test('shares and counts of each layer', async t => {
  t.equal(subject.tokens, T)
  const third = T / 3
  const [first, second, third_, last] = subject.layers
  t.same(first!.picks, [2 * third, third, 0, 0, 0, 0, 2 * third, third])
  t.same(first!.ffnExperts, [third, third, third])
  const { ffn, constant, copy, zero } = routing.shares(first!)
  t.ok(Math.abs(ffn - 1 / 2) < 1e-12 && constant === 0)
  t.ok(Math.abs(copy - 1 / 3) < 1e-12 && Math.abs(zero - 1 / 6) < 1e-12)
  t.same(second!.picks, first!.picks)
  t.same(third_!.picks, [0, 0, T, T, 0, 0, 0, 0])
  t.same(last!.picks, [0, 0, 0, 0, 0, 0, T, T])
  t.same(last!.ffnExperts, [T, 0, 0])
})

t.test('agreement is 1 and 0, own scores vary as planted', async t => {
  const [same, apart, other] = subject.agreement
  t.same([same!.layer, same!.nextLayer, same!.same], [0, 1, 1])
  t.ok(Math.abs(same!.ffnCorrelation! - 1) < 1e-12)
  // First choices are 0, 0 and COPY: two thirds and one third.
  const bits = routing.entropy([2, 1])
  t.ok(Math.abs(same!.information - bits) < 1e-12)
  t.equal(apart!.same, 0)
  t.equal(apart!.ffnCorrelation, null)
  t.equal(other!.same, 0)
  const [first, second, third] = subject.layers.map(({ router }) => router!)
  t.notOk('ownScores' in first!, 'the first layer has no map')
  // 10, 9 and six zeros.
  const mean = 19 / 8
  // The norm's eps, 1e-6, beside a mean square of 1 / 8 takes 2e-5 of it at most.
  const variance = (100 + 81) / 8 - mean ** 2
  for (const { scores } of [first!, second!, third!])
    t.ok(Math.abs(scores.variance - variance) < 1e-3, `${scores.variance}`)
  t.ok(Math.abs(second!.ownScores!.variance) < 1e-10, 'all comes from the layer before')
  t.ok(Math.abs(third!.ownScores!.variance - variance) < 1e-3, 'nothing comes from it')
  t.equal(second!.scores.count, T * EXPERTS)
})

t.test('findings', async t => {
  const found = subject.findings.map(({ kind, layer, expert }) => [kind, layer, expert])
  t.same(found, [
    ['dead-expert', 0, 2],
    ['dead-expert', 0, 3],
    ['dead-expert', 1, 2],
    ['dead-expert', 1, 3],
    ['dead-expert', 2, 0],
    ['dead-expert', 2, 1],
    ['collapsed-layer', 2, 2],
    ['only-ffn', 2, undefined],
    ['dead-expert', 3, 0],
    ['dead-expert', 3, 1],
    ['dead-expert', 3, 2],
    ['dead-expert', 3, 3],
    ['collapsed-layer', 3, COPY],
    ['no-ffn', 3, undefined],
  ])
})

t.test('costs by token and by place in a word', async t => {
  // FFN experts of all four layers, by class: 2 + 2 + 2 + 0, 1 + 1 + 2 + 0, 0 + 0 + 2 + 0.
  const costs = [6 / 4, 4 / 4, 2 / 4]
  const expected = CHARACTERS.map((text, token) => ({
    token,
    text,
    ffnExperts: { count: 40, mean: costs[classOf(token)]!, halfWidth: 0 },
  })).sort((a, b) => b.ffnExperts.mean - a.ffnExperts.mean || a.token - b.token)
  t.same(subject.vocabulary, expected)
  t.equal(subject.ffnExperts.count, T)
  t.equal(subject.ffnExperts.mean, 1)
  // 'adgjmpsv beh.k1': words of 8, 3 and 1 letters.
  const cost = (text: string) => costs[classOf(CHARACTERS.indexOf(text))]!
  const mean = (text: string) => [...text].reduce((sum, c) => sum + cost(c), 0) / text.length
  const places = Object.fromEntries(
    subject.places.map(({ place, ffnExperts }) => [place, ffnExperts]),
  )
  for (const [place, text] of [
    ['first', 'ab'],
    ['middle', 'dgjmpse'],
    ['last', 'vh'],
    ['whole', 'k'],
    ['number', '1'],
    ['punctuation', '.'],
    ['other', ' '],
  ] as const) {
    t.equal(places[place]!.count, 40 * text.length, place)
    t.ok(Math.abs(places[place]!.mean - mean(text)) < 1e-12, place)
  }
})

t.test('rows of each token', async t => {
  t.same(
    rows.map(({ first }) => first),
    rows.map((_, i) => 16 * i),
  )
  t.same(
    rows.map(({ window }) => window),
    rows.map((_, i) => i),
  )
  t.equal(rows.flatMap(({ texts }) => texts).join(''), TEXT)
  for (const { tokens, layers, position } of rows) {
    t.equal(position, 0)
    t.same(
      layers.map(({ layer }) => layer),
      [0, 1, 2, 3],
    )
    const { experts, logits, weights, replaced } = layers[0]!
    const expected = [...tokens].flatMap(id => BY_CLASS[classOf(id)]!)
    t.same([...experts], expected)
    t.ok([...logits].every((logit, i) => Math.abs(logit - (i % 2 === 0 ? 10 : 9)) < 1e-4))
    t.ok(
      [...replaced].every(share => share === 0),
      'no constant expert',
    )
    // The zero expert's weight is dropped.
    t.ok([...experts].every((expert, i) => (expert === ZERO) === (weights[i] === 0)))
  }
})

t.test('the cost is counted from the picks', async t => {
  const { model, twin, ceilings } = subject.cost!
  t.equal(ceilings, null)
  t.same([model.predicted, model.measured], [null, null])
  t.equal(model.ffnExperts, 1)
  t.equal(twin.ffnExperts, 2)
  // An FFN expert has 3 H F multiply-adds; the twin has one more in each of 4 layers.
  const operations = 4 * 2 * 3 * H * 8
  t.ok(Math.abs(twin.operations - model.operations - operations) < 1e-6)
  t.ok(Math.abs(twin.bytes - model.bytes - 4 * 3 * H * 8 * 4) < 1e-6)
  const empty = subject.layers.map(layer => ({
    ...layer,
    tokens: 0,
    picks: layer.picks.map(() => 0),
  }))
  const none = costOf({ ...small, layers: empty, windowTokens: 16 })
  t.ok(Math.abs(model.operations - none.model.operations - operations) < 1e-6)
})

t.test('rows are made of the first tokens alone, if no more are wanted', async t => {
  for (const [rowTokens, windows] of [
    [0, 0],
    [1, 1],
    [16, 1],
    [17, 2],
  ]) {
    const { rows: some, subject: whole } = await surveyOf(small, TEXT, { rowTokens: rowTokens! })
    t.same(some, rows.slice(0, windows))
    t.same(whole, subject)
  }
})

t.test('the share that a constant expert replaces: its own scores, of a doubled input', async t => {
  const scores = (name: string, shape: readonly number[]) => {
    if (name === 'model.embed_tokens.weight') return planted(name, shape)
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1))
    const expert = /experts\.(\d+)\.wg\.weight/.exec(name)
    // A normed token has sqrt(H) at its class: scores (0, 0.1 e + class) less the other one.
    for (let c = 0; c < 3 && expert; c++)
      values[H + c] = (0.1 * Number(expert[1]) - c) / Math.sqrt(H)
    if (name.endsWith('gate.wg.weight'))
      for (let c = 0; c < 3; c++) for (const e of [4, 5]) values[e * H + c] = e
    return expert || name.endsWith('gate.wg.weight') ? values : undefined
  }
  const config = { ...CONFIG, moe_feature_no_mul_topk: false }
  const doubled = await loadSmall(
    plantedCheckpoint(join(t.testdir(), 'doubled'), config, scores),
    CHARACTERS,
  )
  t.teardown(() => doubled.model.close())
  const { layers, tokens } = (await surveyOf(doubled, TEXT.slice(0, 16))).rows[0]!
  const { experts, replaced } = layers[0]!
  experts.forEach((expert, i) => {
    const apart = 0.1 * expert - classOf(tokens[Math.floor(i / 2)]!)
    t.ok(expert === 4 || expert === 5)
    t.ok(Math.abs(replaced[i]! - 1 / (1 + Math.exp(-2 * apart))) < 1e-4)
  })
})

t.test('a model that computes NaN has numbers, and a finding that says so', async t => {
  const broken = (name: string, shape: readonly number[]) => {
    const values = planted(name, shape)
    return name.startsWith('model.layers.2.') && name.endsWith('gate.wg.weight')
      ? values?.fill(Number.NaN)
      : values
  }
  const nan = await loadSmall(
    plantedCheckpoint(join(t.testdir(), 'broken'), CONFIG, broken),
    CHARACTERS,
  )
  t.teardown(() => nan.model.close())
  const { subject: got } = await surveyOf(nan, TEXT)
  t.same(JSON.parse(JSON.stringify(got)), got, 'no number is NaN, which JSON has as null')
  t.same(got.layers.slice(0, 2), subject.layers.slice(0, 2))
  t.same(
    got.findings.filter(({ kind }) => kind === 'broken-router').map(({ layer }) => layer),
    [2, 3],
  )
  t.match(got.findings.at(-1)!.text, `${T} of ${T} tokens`)
  t.same([got.layers[2]!.router!.scores.count, got.layers[2]!.weights.some(w => w > 0)], [0, false])
})

t.test('windows and pieces change nothing here', async t => {
  for (const options of [{ windowTokens: 7 }, { windowTokens: 4096 }, { onRows: undefined }]) {
    const {
      windowTokens: _,
      cost: __,
      ...got
    } = (await surveyOf(small, TEXT, options as object)).subject
    const { windowTokens: ___, cost: ____, ...want } = subject
    const strip = ({ layers, ...rest }: typeof got) => ({
      ...rest,
      layers: layers.map(({ router: _, weights: __, ...layer }) => layer),
    })
    t.same(strip(got), strip(want))
  }
})

t.test('what goes wrong is told', async t => {
  const failure = (text: string, options: object) => surveyOf(small, text, options)
  await t.rejects(failure('', {}), { code: 'ERR_BAD_PROMPT', message: /no token/ })
  for (const windowTokens of [0, 1.5, 5000])
    await t.rejects(failure(TEXT, { windowTokens }), {
      name: 'RangeError',
      message: /windowTokens/,
    })
  const signal = AbortSignal.abort(new Error('enough'))
  await t.rejects(failure(TEXT, { signal }), { code: 'ERR_ABORTED' })
  const controller = new AbortController()
  const onRows = () => controller.abort()
  await t.rejects(failure(TEXT, { signal: controller.signal, onRows }), { code: 'ERR_ABORTED' })
  const broken = () => Promise.reject(new Error('disk full'))
  await t.rejects(failure(TEXT, { onRows: broken }), { message: 'disk full' })
  const unreadable = (async function* () {
    yield TEXT
    throw new Error('unreadable')
  })()
  await t.rejects(failure(TEXT, { text: unreadable }), { message: 'unreadable' })
  // The model still works.
  t.same((await surveyOf(small, TEXT)).subject.findings, subject.findings)
})
