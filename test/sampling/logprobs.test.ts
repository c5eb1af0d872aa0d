import t from 'tap'
import { argmax, logSumExp, scoredLogprobs, tokenLogprobs } from '../../lib/sampling/sampler.js'
import { topOf } from '../engine/fake-runner.js'
import { random } from './reference.js'

/** log(sum(exp)) the plain way. */
function plainLogSumExp(logits: Float32Array): number {
  const largest = Math.max(...logits)
  return largest + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - largest), 0))
}

t.test('argmax takes the lowest index on ties', async t => {
  t.equal(argmax(Float32Array.of(1, 3, 2, 3)), 1)
  t.equal(argmax(Float32Array.of(0, 0, 0)), 0)
  t.equal(argmax(Float32Array.of(-Infinity, -Infinity, -3e38)), 2)
  t.equal(argmax(Float32Array.of(5)), 0)
  t.equal(argmax(Float32Array.of(-0, 0)), 0)
})

const EXPECTED =
  ', expected finite numbers: the weights are damaged or too large, or the device failed'

t.test('logits that are no distribution are a failure of the weights or the device', async t => {
  const bad: [string, Float32Array][] = [
    ['the logit of token 1 is NaN', Float32Array.of(9, Number.NaN, 1)],
    ['the logit of token 0 is NaN', Float32Array.of(Number.NaN)],
    ['the logit of token 2 is Infinity', Float32Array.of(1, 2, Infinity)],
    ['all 2 logits are -Infinity', Float32Array.of(-Infinity, -Infinity)],
  ]
  for (const [got, logits] of bad) {
    const message = `logits: ${got}${EXPECTED}`
    t.throws(() => argmax(logits), { code: 'ERR_DEVICE', message })
    t.throws(() => logSumExp(logits), { code: 'ERR_DEVICE', message })
    t.throws(() => tokenLogprobs(logits, 0, 1), { code: 'ERR_DEVICE', message })
  }
})

t.test('logSumExp and tokenLogprobs agree with the plain formula', async t => {
  const { normal } = random(1)
  for (const size of [1, 2, 33, 5000]) {
    const logits = Float32Array.from({ length: size }, () => normal() * 4)
    t.ok(Math.abs(logSumExp(logits) - plainLogSumExp(logits)) < 1e-12)
    for (const id of [0, size - 1, size >> 1]) {
      const { logprob } = tokenLogprobs(logits, id, 0)
      t.ok(Math.abs(logprob - (logits[id]! - plainLogSumExp(logits))) < 1e-12)
    }
  }
  t.equal(logSumExp(Float32Array.of(1e30, 1e30)), Math.fround(1e30) + Math.log(2))
  t.equal(tokenLogprobs(Float32Array.of(-Infinity, 3), 0, 0).logprob, -Infinity)
  t.equal(tokenLogprobs(Float32Array.of(-Infinity, 3), 1, 0).logprob, 0)
  t.throws(() => tokenLogprobs(Float32Array.of(1, 2), 2, 0), {
    name: 'RangeError',
    message: 'tokenId: expected an integer from 0 to 1, got 2',
  })
})

t.test('tokenLogprobs gives the likeliest tokens, lower ids first on ties', async t => {
  const { below } = random(2)
  for (let round = 0; round < 200; round++) {
    const size = 1 + below(60)
    // Few distinct values, hence many ties.
    const logits = Float32Array.from({ length: size }, () => below(8))
    const count = below(size + 4)
    const token = below(size)
    const expected = Array.from(logits.keys())
      .sort((a, b) => logits[b]! - logits[a]! || a - b)
      .slice(0, count)
    const got = tokenLogprobs(logits, token, count)
    t.same(
      got.top.map(each => each.tokenId),
      expected,
    )
    const normalizer = logSumExp(logits)
    t.ok([got, ...got.top].every(each => each.logprob === logits[each.tokenId]! - normalizer))
    t.equal(got.tokenId, token)
    for (const known of [1, Math.min(size, 5), size]) {
      const scored = { ...topOf(logits, known, true), row: logits }
      t.same(scoredLogprobs(scored, token, count), got, 'the same from a row and its largest')
    }
  }
  const row = Float32Array.of(1, Number.NaN)
  t.throws(() => scoredLogprobs({ ...topOf(row, 1, false), row }, 0, 0), { code: 'ERR_DEVICE' })
})
