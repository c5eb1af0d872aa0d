/** Surveys of the bundled model, and of one whose zero-computation experts are masked. */
import t from 'tap'
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { Model } from '../../lib/generation/model.js'
import { routing } from '../../lib/index.js'
import { loadParts } from '../../lib/load/load.js'
import { resolveLoadOptions } from '../../lib/options/generate.js'
import { BOOKS, readValues } from '../checkpoint/files.js'
import { goldenCase } from '../support/golden.js'
import { letters } from './character-tokenizer.js'
import { loadSmall, surveyOf } from './surveyed.js'

const parts = await loadParts(BOOKS, resolveLoadOptions({ device: 'cpu', threads: 2 }))
const model = new Model(parts)
t.teardown(() => model.close())
const books = { model, spec: parts.spec, cacheDtype: parts.runner.cache.dtype }

const TEXT = 'The old man — naïve, 72 — sat.\nShe said: "漢字 😀"\r\n\tAnd so on.'
const ids = model.tokenizer.encode(TEXT, { addSpecialTokens: false })
const bos = model.tokenizer.bosTokenId!

t.test('begin tokens are computed, and not counted', async t => {
  const { subject, rows } = await surveyOf(books, TEXT, { windowTokens: 20 })
  t.same(
    rows.flatMap(({ tokens }) => [...tokens]),
    ids,
  )
  t.equal(rows.flatMap(({ texts }) => texts).join(''), TEXT)
  t.equal(subject.tokens, ids.length)
  t.equal(subject.layers[0]!.router!.scores.count, ids.length * model.config.experts)
  const counted = subject.vocabulary.find(({ token }) => token === bos)
  t.equal(counted, undefined)
  for (const [w, { first, window, position, layers }] of rows.entries()) {
    t.same([first, window, position], [19 * w, w, 1])
    const own = [bos, ...ids.slice(first, first + 19)]
    const capture = ['layers.*.router_logits', 'layers.*.constant_scores']
    const result = await model.forward(own, { logits: false, routing: true, capture })
    for (const [l, layer] of layers.entries()) {
      const { expertIndices, expertWeights, topK, kinds } = result.routing!.layers[l]!
      t.same(layer.experts, expertIndices.subarray(topK))
      t.same(layer.weights, expertWeights.subarray(topK))
      const isFfn = [...layer.experts].map((e, i) => kinds[e] === 'ffn' && layer.weights[i]! > 0)
      const counts = own.slice(1).map((_, i) => isFfn.slice(i * topK, (i + 1) * topK))
      t.same(
        [...layer.ffnExperts],
        counts.map(each => each.filter(Boolean).length),
      )
      const logits = result.captured[`layers.${l}.router_logits`]!
      const scores = result.captured[`layers.${l}.constant_scores`]!
      layer.experts.forEach((expert, i) => {
        const token = 1 + Math.floor(i / topK)
        const isLogit = layer.logits[i] === logits[token * kinds.length + expert]
        // Constant experts are 8 and 9: the second of two scores is that of the vector.
        const at = 4 * token + 2 * (expert - 8)
        const powers = [scores[at]!, scores[at + 1]!].map(Math.exp)
        const share = kinds[expert] === 'constant' ? powers[1]! / (powers[0]! + powers[1]!) : 0
        const isShare = Math.abs(layer.replaced[i]! - share) < 1e-6
        if (!isLogit || !isShare) t.fail(`window ${w}, layer ${l}, pick ${i}`)
      })
    }
  }
})

t.test('own scores of a text with begin tokens', async t => {
  const { subject } = await surveyOf(books, TEXT, { windowTokens: 512 })
  const { captured } = await model.forward([bos, ...ids], { capture: ['layers.*.router_logits'] })
  const { tensors } = await openCheckpoint(BOOKS)
  const E = model.config.experts
  for (let l = 1; l < subject.layers.length; l++) {
    const [before, logits] = [l - 1, l].map(layer => captured[`layers.${layer}.router_logits`]!)
    const G = readValues(tensors.get(`model.layers.${l}.mlp.moe.gate.gate_map.weight`)!)
    let [sum, squares] = [0, 0]
    for (let at = E; at < logits!.length; at++) {
      const [row, e] = [at - (at % E), at % E]
      let own = logits![at]!
      for (let i = 0; i < E; i++) own -= G[e * E + i]! * before![row + i]!
      sum += own
      squares += own * own
    }
    const { count, mean, variance } = subject.layers[l]!.router!.ownScores!
    t.equal(count, ids.length * E)
    t.ok(Math.abs(mean - sum / count) < 1e-9)
    t.ok(Math.abs(variance - (squares / count - mean ** 2)) < 1e-9)
  }
})

t.test('the statistics of a survey are those of the pure functions', async t => {
  const { subject } = await surveyOf(books, TEXT, { windowTokens: 512, addSpecialTokens: false })
  const capture = ['layers.*.router_logits']
  const { routing: found, captured } = await model.forward(ids, { routing: true, capture })
  for (const [l, layer] of found!.layers.entries()) {
    const logits = captured[`layers.${l}.router_logits`] as Float32Array
    const { router, ...counts } = routing.statistics(layer, { logits, normStd: 1 })
    const { router: surveyed, ...others } = subject.layers[l]!
    t.same(counts, others)
    t.same({ ...surveyed, ownScores: null }, { ...router, ownScores: null })
    const next = found!.layers[l + 1]
    if (next) t.same(subject.agreement[l], routing.agreement(layer, next))
  }
})

t.test('a masked router leaves zero-computation experts out', async t => {
  const small = await loadSmall(goldenCase('masked', 'qwen3_moe_plus_plus'))
  t.teardown(() => small.model.close())
  const text = letters(small.model.config.vocabSize).slice(1, 30).join('')
  const { subject } = await surveyOf(small, text, { windowTokens: 10 })
  for (const { router, kinds, picks } of subject.layers) {
    t.ok(kinds.some(kind => kind !== 'ffn'))
    for (const [e, kind] of kinds.entries()) {
      if (kind === 'ffn') continue
      t.equal(picks[e], 0)
      t.equal(router!.probabilities[e], 0)
    }
    const sum = router!.probabilities.reduce((a, b) => a + b, 0)
    t.ok(Math.abs(sum - 29) < 1e-9)
  }
})
