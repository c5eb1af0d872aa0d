/**
 * The largest logits of a row give what the whole row gives: the same tokens, distributions,
 * failures, bit for bit.
 */
import t from 'tap'
import { type GenerateOptions, resolveGenerateOptions } from '../../lib/options/generate.js'
import { Sampler } from '../../lib/sampling/sampler.js'
import { topOf } from '../engine/fake-runner.js'
import * as reference from './reference.js'

type Random = ReturnType<typeof reference.random>

function randomOptions({ next, below }: Random): GenerateOptions {
  const sometimes = (value: GenerateOptions): GenerateOptions => (below(3) === 0 ? value : {})
  return {
    seed: below(1000),
    ...(below(4) === 0 ? { doSample: false } : { temperature: 0.05 + 2 * next() }),
    topK: below(5) === 0 ? below(80) : 1 + below(12),
    ...sometimes({ topP: next() }),
    ...sometimes({ minP: next() ** 3 }),
    ...sometimes({ typicalP: 1 - next() }),
    ...sometimes({ repetitionPenalty: 0.9 + next() }),
    ...sometimes({ frequencyPenalty: 2 * next() - 0.3 }),
    ...sometimes({ presencePenalty: 2 * next() - 0.3 }),
    ...sometimes({ noRepeatNgramSize: 1 + below(3) }),
    ...sometimes({ minNewTokens: below(6) }),
    ...sometimes({ logprobs: below(20) }),
    ...sometimes({
      logitBias: { [below(20)]: -below(30), [below(20)]: below(4) === 0 ? 3 : -Infinity },
    }),
  }
}

/** Continuous, or of so few values that ties are everywhere, here and there -Infinity. */
function randomRow({ normal, below }: Random, size: number): Float32Array {
  const levels = below(2) === 0 ? 0 : 2 + below(8)
  const row = Float32Array.from({ length: size }, () => {
    if (below(30) === 0) return -Infinity
    return levels === 0 ? 3 * normal() : below(levels)
  })
  row[below(size)] = normal()
  return row
}

t.test('random options over random rows', async t => {
  const random = reference.random(20)
  const { below } = random
  const seen = { taken: 0, tooFew: 0, refused: 0 }
  const wrong: string[] = []
  for (let round = 0; round < 3000; round++) {
    const vocabSize = 20 + below(200)
    const count = 1 + below(Math.min(vocabSize, 60))
    const call = randomOptions(random)
    const options = resolveGenerateOptions(call, {}, { vocabSize })
    const sequence = {
      promptIds: Array.from({ length: below(30) }, () => below(vocabSize)),
      endTokenIds: [0, 3],
      stream: 0,
    }
    const [whole, top] = [new Sampler(options, sequence), new Sampler(options, sequence)]
    if (!top.takesTop(count)) {
      seen.refused++
      continue
    }
    for (let step = 0; step < 8; step++) {
      const row = randomRow(random, vocabSize)
      const largest = topOf(row, count, true)
      const suffices = top.suffices(largest)
      seen[suffices ? 'taken' : 'tooFew']++
      const given = suffices ? largest : row
      const before = JSON.stringify(largest)
      const expected = outcome(() => [whole.distribution(row), whole.sample(row)])
      const got = outcome(() => [top.distribution(given), top.sample(given)])
      if (got !== expected)
        wrong.push(`round ${round}, step ${step}, ${JSON.stringify(call)}: ${got}, not ${expected}`)
      if (JSON.stringify(largest) !== before)
        wrong.push(`round ${round}: the largest logits changed`)
    }
  }
  t.same(wrong, [])
  t.ok(Math.min(seen.taken, seen.tooFew, seen.refused) > 500, JSON.stringify(seen))
})

/** A step's results, or its failure, as text: bitwise. */
function outcome(step: () => unknown): string {
  try {
    return JSON.stringify(step(), (_, value) => (ArrayBuffer.isView(value) ? String(value) : value))
  } catch (error) {
    return String(error)
  }
}

t.test('rows that are no distribution fail alike', async t => {
  const random = reference.random(21)
  for (const call of [
    { doSample: false },
    { temperature: 1, topK: 3 },
    { repetitionPenalty: 1.5 },
  ]) {
    for (const bad of [Number.NaN, Infinity]) {
      const row = randomRow(random, 50)
      row[17] = bad
      row[40] = bad
      const options = resolveGenerateOptions(call, {}, { vocabSize: 50 })
      const sampler = new Sampler(options, { promptIds: [1], endTokenIds: [0], stream: 0 })
      const message = outcome(() => sampler.sample(row))
      t.match(message, /the logit of token 17 is (NaN|Infinity)/)
      t.equal(
        outcome(() => sampler.sample(topOf(row, 8, false))),
        message,
      )
    }
  }
})

t.test('which options take the largest logits', async t => {
  const takes = (call: GenerateOptions, count = 64) =>
    new Sampler(resolveGenerateOptions(call, {}, { vocabSize: 1000 }), {
      promptIds: [1],
      endTokenIds: [0],
      stream: 0,
    }).takesTop(count)
  t.ok(takes({}))
  t.ok(takes({}, 1))
  t.ok(takes({ temperature: 1, topP: 0.9, minP: 0.1, typicalP: 0.9 }))
  t.ok(
    takes({ temperature: 1, repetitionPenalty: 1.2, noRepeatNgramSize: 3, logitBias: { 3: -5 } }),
  )
  t.ok(takes({ logprobs: 64 }))
  t.notOk(takes({ logprobs: 65 }))
  t.notOk(takes({ temperature: 1, topK: 0 }), 'the whole distribution')
  t.notOk(takes({ temperature: 1, topK: 64 }), 'ties with the last one are not known')
  t.notOk(takes({ repetitionPenalty: 0.9 }), 'raises logits from anywhere')
  t.notOk(takes({ frequencyPenalty: -0.1 }))
  t.notOk(takes({ presencePenalty: -0.1 }))
  t.notOk(takes({ logitBias: { 3: 5 } }))
})
