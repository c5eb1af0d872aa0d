import t from 'tap'
import { type GenerateOptions, resolveGenerateOptions } from '../../lib/options/generate.js'
import { NgramIndex } from '../../lib/sampling/ngrams.js'
import { Penalties } from '../../lib/sampling/penalties.js'
import { ngramBans, penalized, random } from './reference.js'

const vocabSize = 40
const endTokenIds = [2, 7]

const cases: GenerateOptions[] = [
  { repetitionPenalty: 1.3 },
  { repetitionPenalty: 0.7 },
  { frequencyPenalty: 0.4 },
  { presencePenalty: -1.5 },
  { frequencyPenalty: -0.3, presencePenalty: 0.9 },
  { noRepeatNgramSize: 1 },
  { noRepeatNgramSize: 2 },
  { noRepeatNgramSize: 4 },
  { logitBias: { 0: 5, 39: -100, 7: -Infinity } },
  { minNewTokens: 6 },
  {
    logitBias: new Map([
      [2, 3],
      [5, -1],
    ]),
    repetitionPenalty: 1.2,
    frequencyPenalty: 0.5,
    presencePenalty: 0.25,
    noRepeatNgramSize: 3,
    minNewTokens: 10,
  },
]

t.test('apply equals the plain definition, and restore brings the logits back', async t => {
  for (const [index, call] of cases.entries()) {
    const options = resolveGenerateOptions(call, {}, { vocabSize })
    const { normal, below } = random(100 + index)
    for (const promptLength of [0, 1, 30]) {
      const prompt = Array.from({ length: promptLength }, () => below(vocabSize))
      const generated: number[] = []
      const penalties = new Penalties(options, prompt, endTokenIds)
      for (let step = 0; step < 25; step++) {
        const raw = Float32Array.from({ length: vocabSize }, () => normal() * 3)
        const logits = raw.slice()
        penalties.apply({ logits })
        t.same(
          logits,
          penalized(raw, options, prompt, generated, endTokenIds),
          JSON.stringify(call),
        )
        if (!penalties.active) t.same(logits, raw)
        penalties.restore({ logits })
        t.same(logits, raw)
        // Few distinct tokens, so that n-grams recur.
        const token = below(6)
        generated.push(token)
        penalties.append(token)
      }
    }
  }
})

t.test('without penalties nothing is active; minNewTokens is until it is reached', async t => {
  t.notOk(new Penalties(resolveGenerateOptions({}, {}, { vocabSize }), [1, 2], endTokenIds).active)
  const penalties = new Penalties(
    resolveGenerateOptions({ minNewTokens: 1 }, {}, { vocabSize }),
    [],
    endTokenIds,
  )
  t.ok(penalties.active)
  penalties.append(3)
  t.notOk(penalties.active)
})

t.test('a penalty near 0 makes no infinity', async t => {
  const options = resolveGenerateOptions({ repetitionPenalty: 1e-300 }, {}, { vocabSize })
  const logits = Float32Array.of(2, -2, 0)
  new Penalties(options, [0, 1, 2], []).apply({ logits })
  t.ok(logits.every(Number.isFinite))
})

t.test('n-gram continuations equal the plain definition', async t => {
  const { below } = random(3)
  for (let round = 0; round < 60; round++) {
    const n = 1 + below(5)
    const alphabet = 1 + below(4)
    const index = new NgramIndex(n)
    const tokens: number[] = []
    for (let i = 0; i < 40; i++) {
      t.same(
        [...index.continuations()].sort(),
        [...ngramBans(tokens, n)].sort(),
        `n ${n}: ${tokens}`,
      )
      tokens.push(below(alphabet))
      index.append(tokens.at(-1)!)
    }
  }
})

t.test('prefixes with one hash are told apart', async t => {
  // FNV-1a after one token; the second token of each pair makes the hashes meet.
  const afterOne = (token: number) => Math.imul(0x811c9dc5 ^ token, 0x01000193)
  const [first, second, other] = [3, 5, 4]
  const collider = (second ^ afterOne(first) ^ afterOne(other)) >>> 0
  const index = new NgramIndex(3)
  for (const token of [first, second, 8, other, collider]) index.append(token)
  t.same([...index.continuations()], [])
  for (const token of [9, first, second]) index.append(token)
  t.same([...index.continuations()], [8])
  for (const token of [other, collider]) index.append(token)
  t.same([...index.continuations()], [9])
})

t.test('the cost of an n-gram step does not grow with the text', async t => {
  // Every prefix recurs all the time: a scan of the text per token would need 4e10 comparisons
  // here.
  const index = new NgramIndex(3)
  for (let i = 0; i < 200_000; i++) {
    index.append(i % 2)
    index.continuations()
  }
  t.same([...index.continuations()], [0])
})
