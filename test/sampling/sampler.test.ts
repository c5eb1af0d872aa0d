import t from 'tap'
import { type GenerateOptions, resolveGenerateOptions } from '../../lib/options/generate.js'
import { Sampler } from '../../lib/sampling/sampler.js'
import * as reference from './reference.js'

const { random } = reference

function samplerOf(
  call: GenerateOptions,
  vocabSize: number,
  { promptIds = [] as number[], stream = 0 } = {},
) {
  const options = resolveGenerateOptions(call, {}, { vocabSize })
  return { options, sampler: new Sampler(options, { promptIds, endTokenIds: [0], stream }) }
}

/** The fault of the sampler's distribution, or undefined. */
function difference(logits: Float32Array, call: GenerateOptions): string | undefined {
  const { options, sampler } = samplerOf({ doSample: true, ...call }, logits.length)
  const before = logits.slice()
  const { tokenIds, probabilities } = sampler.distribution(logits)
  if (logits.some((x, i) => !Object.is(x, before[i]))) return 'the logits changed'
  const expected = reference.distribution(logits, options)
  const got = new Array<number>(logits.length).fill(0)
  for (const [i, id] of tokenIds.entries()) {
    if (i > 0 && id <= tokenIds[i - 1]!) return `ids are not ascending at ${i}`
    got[id] = probabilities[i]!
  }
  for (let id = 0; id < expected.length; id++) {
    const [a, b] = [got[id]!, expected[id]!]
    if (a > 0 !== b > 0) return `token ${id} has probability ${a}, expected ${b}`
    // Sums of V terms and one exponential on each side, whose argument |logit| / temperature is
    // rounded too.
    const scale = 1 + Math.abs(logits[id]!) / options.temperature
    if (Math.abs(a - b) > 4 * Number.EPSILON * (logits.length + scale) * b)
      return `token ${id} has ${a}, expected ${b}`
  }
  return undefined
}

const single: GenerateOptions[] = [
  {},
  { topK: 0 },
  { topK: 1 },
  { topK: 7 },
  { topK: 1_000_000 },
  { topK: 3000 },
  { topK: 0, topP: 0.9 },
  { topK: 0, topP: 0 },
  { topK: 0, topP: 1e-9 },
  { topK: 0, topP: 0.999999 },
  { topK: 0, minP: 0.05 },
  { topK: 0, minP: 1 },
  { topK: 0, typicalP: 0.9 },
  { topK: 0, typicalP: 0.2 },
  { topK: 0, typicalP: 1e-6 },
  { topK: 40, topP: 0.8, minP: 0.02, typicalP: 0.95 },
]

t.test(
  'each option alone keeps what the full-sort reference keeps, with its probabilities',
  async t => {
    const { normal } = random(10)
    const wrong: string[] = []
    for (const call of single) {
      for (const size of [1, 2, 3, 50, 51, 1000, 5000]) {
        for (const temperature of [0.2, 1, 3]) {
          const logits = Float32Array.from({ length: size }, () => normal() * 3)
          const found = difference(logits, { ...call, temperature })
          if (found !== undefined)
            wrong.push(
              `${JSON.stringify(call)}, ${size} logits, temperature ${temperature}: ${found}`,
            )
        }
      }
    }
    t.same(wrong, [])
  },
)

t.test('random combinations equal the reference', async t => {
  const { next, normal, below } = random(11)
  const wrong: string[] = []
  for (let round = 0; round < 2000; round++) {
    const call: GenerateOptions = { temperature: 0.05 + 2 * next(), topK: below(2) * below(80) }
    if (below(2) === 1) call.topP = next()
    if (below(2) === 1) call.minP = next() ** 3
    if (below(2) === 1) call.typicalP = 1 - next()
    const spread = 0.1 + 5 * next()
    const logits = Float32Array.from({ length: 1 + below(300) }, () =>
      below(20) === 0 ? -Infinity : normal() * spread,
    )
    logits[below(logits.length)] = normal()
    const found = difference(logits, call)
    if (found !== undefined) wrong.push(`round ${round}, ${JSON.stringify(call)}: ${found}`)
  }
  t.same(wrong, [])
})

t.test('ties: topK and typicalP keep them all, topP the lower ids it needs', async t => {
  const kept = (logits: number[], call: GenerateOptions) =>
    Array.from(
      samplerOf({ doSample: true, topK: 0, ...call }, logits.length).sampler.distribution(
        Float32Array.from(logits),
      ).tokenIds,
    )
  t.same(kept([1, 2, 1, 2, 1], { topK: 1 }), [1, 3])
  t.same(kept([1, 2, 1, 2, 1], { topK: 3 }), [0, 1, 2, 3, 4])
  t.same(kept([5, 5, 5, 5], { topP: 0.5 }), [0, 1])
  t.same(kept([5, 5, 5, 5], { topP: 0.51 }), [0, 1, 2])
  t.same(kept([5, 5, 5, 5], { topP: 0 }), [0])
  t.same(kept([5, 5, 5, 5], { typicalP: 0.1 }), [0, 1, 2, 3])
  t.same(kept([5, 5, 5, 5], { minP: 1 }), [0, 1, 2, 3])
  const { below } = random(12)
  for (let round = 0; round < 500; round++) {
    const logits = Float32Array.from({ length: 1 + below(40) }, () => below(5))
    // Masses that no sum of these few probabilities meets exactly, where rounding would decide.
    const call = { topK: below(10), topP: 0.1 + 0.8 * random(round).next() }
    t.equal(difference(logits, call), undefined, JSON.stringify(call))
  }
})

t.test('logits at the edges', async t => {
  const only = new Float32Array(100).fill(-Infinity)
  only[37] = -5
  const huge = Float32Array.of(1e30, -1e30, 3e38, 1e30)
  for (const call of single) {
    const lone = samplerOf({ doSample: true, seed: 1, ...call }, 100).sampler
    t.equal(lone.sample(only).tokenId, 37)
    t.same(lone.distribution(only).probabilities, Float64Array.of(1))
    const { sampler } = samplerOf({ doSample: true, seed: 1, temperature: 1e-300, ...call }, 4)
    t.equal(sampler.sample(huge).tokenId, 2)
    t.equal(
      samplerOf({ doSample: true, ...call }, 1).sampler.sample(Float32Array.of(-3e38)).tokenId,
      0,
    )
  }
})

t.test('logits that are no distribution throw, whatever the options', async t => {
  const bad = [
    Float32Array.of(1, Number.NaN, 0),
    Float32Array.of(1, Infinity, 0),
    new Float32Array(3).fill(-Infinity),
    Float32Array.of(Number.NaN, Number.NaN, Number.NaN),
  ]
  for (const call of [
    { doSample: false },
    ...single,
    { repetitionPenalty: 2 },
    { logitBias: { 1: -Infinity } },
  ]) {
    for (const logits of bad) {
      const { sampler } = samplerOf({ doSample: true, ...call }, 3)
      t.throws(() => sampler.sample(logits), { name: 'MoeppError', code: 'ERR_DEVICE' })
    }
  }
})

t.test('options that ban every token are named, and the row is restored', async t => {
  const { sampler } = samplerOf({ noRepeatNgramSize: 1, logitBias: { 2: -Infinity } }, 3, {
    promptIds: [0, 1],
  })
  const logits = Float32Array.of(1, 2, 3)
  t.throws(() => sampler.sample(logits), {
    name: 'RangeError',
    message: /logitBias, noRepeatNgramSize/,
  })
  t.same(logits, Float32Array.of(1, 2, 3))
})

t.test(
  'penalties act on the choice: greedy never repeats a banned pair, and waits with the end',
  async t => {
    const logits = Float32Array.of(9, 5, 4, 3)
    const { sampler } = samplerOf({ noRepeatNgramSize: 2, minNewTokens: 3 }, 4, { promptIds: [1] })
    const tokens = Array.from({ length: 6 }, () => sampler.sample(logits).tokenId)
    // 0 ends the sequence and is held back three times; pairs (1,1), (1,2), (2,1) are then in the
    // text.
    t.same(tokens, [1, 2, 1, 0, 0, 1])
  },
)

t.test('draws follow the distribution: chi-square with a fixed seed', async t => {
  const { normal } = random(13)
  const logits = Float32Array.from({ length: 60 }, normal)
  const { sampler } = samplerOf(
    { doSample: true, seed: 5, topK: 20, topP: 0.95, temperature: 1.3 },
    60,
  )
  const { tokenIds, probabilities } = sampler.distribution(logits)
  const draws = 40_000
  const counts = new Map<number, number>()
  for (let i = 0; i < draws; i++) {
    const { tokenId } = sampler.sample(logits)
    counts.set(tokenId, (counts.get(tokenId) ?? 0) + 1)
  }
  t.ok([...counts.keys()].every(id => tokenIds.includes(id)))
  let chiSquare = 0
  for (const [i, id] of tokenIds.entries()) {
    const expected = draws * probabilities[i]!
    chiSquare += ((counts.get(id) ?? 0) - expected) ** 2 / expected
  }
  // Mean k - 1 and variance 2 (k - 1); four standard deviations.
  const freedom = tokenIds.length - 1
  t.ok(
    chiSquare < freedom + 4 * Math.sqrt(2 * freedom),
    `chi-square is ${chiSquare}, ${freedom} degrees of freedom`,
  )
})

t.test('same seed, same tokens, whatever runs beside it; streams and seeds differ', async t => {
  const { normal } = random(14)
  const rows = Array.from({ length: 30 }, () => Float32Array.from({ length: 500 }, normal))
  const run = (seed: number, stream: number, between = () => {}) => {
    const { sampler } = samplerOf({ temperature: 1, seed }, 500, { stream })
    return rows
      .map(row => {
        between()
        return sampler.sample(row).tokenId
      })
      .join()
  }
  const other = samplerOf({ doSample: true, seed: 8, topK: 0, typicalP: 0.5 }, 500).sampler
  t.equal(
    run(8, 0),
    run(8, 0, () => other.sample(rows[0]!)),
  )
  t.equal(new Set([run(8, 0), run(8, 1), run(8, 2), run(9, 0), run(-8, 0)]).size, 5)
  const unseeded = () => resolveGenerateOptions({}, {}, { vocabSize: 5 }).seed
  t.not(unseeded(), unseeded())
})

t.test('a failed step changes nothing', async t => {
  const logits = Float32Array.of(1, 1, 1, 1)
  const tokens = (fail: boolean) => {
    const { sampler } = samplerOf({ doSample: true, seed: 3, repetitionPenalty: 1.5 }, 4)
    return Array.from({ length: 20 }, () => {
      if (fail) t.throws(() => sampler.sample(Float32Array.of(Number.NaN, 1, 1, 1)))
      return sampler.sample(logits).tokenId
    })
  }
  t.same(tokens(true), tokens(false))
})

t.test('logprobs are of the raw logits', async t => {
  const logits = Float32Array.of(Math.log(4), Math.log(3), Math.log(2), Math.log(1))
  const call = { temperature: 0.1, seed: 1, logitBias: { 0: -Infinity }, topK: 1, logprobs: 2 }
  const { tokenId, logprobs } = samplerOf(call, 4).sampler.sample(logits)
  t.equal(tokenId, 1)
  t.equal(logprobs?.tokenId, 1)
  t.ok(Math.abs(logprobs!.logprob - Math.log(0.3)) < 1e-6)
  t.same(
    logprobs?.top.map(each => each.tokenId),
    [0, 1],
  )
  t.ok(Math.abs(logprobs!.top[0]!.logprob - Math.log(0.4)) < 1e-6)
  t.same(samplerOf({ logprobs: 0 }, 4).sampler.sample(logits).logprobs?.top, [])
  t.notOk('logprobs' in samplerOf({}, 4).sampler.sample(logits))
})
