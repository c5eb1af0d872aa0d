/** Tokens that a constraint allows: the same as if the logits of the others were -Infinity. */
import t from 'tap'
import { Sampler, type SamplingOptions } from '../../lib/sampling/sampler.js'

const V = 77
const base: SamplingOptions = {
  ...{ doSample: true, temperature: 0.7, topK: 0, topP: 1, minP: 0, typicalP: 1, seed: 3 },
  ...{ repetitionPenalty: 1, frequencyPenalty: 0, presencePenalty: 0, noRepeatNgramSize: 0 },
  ...{ logitBias: new Map(), minNewTokens: 0, logprobs: undefined, logits: undefined },
}
const OPTIONS: readonly Partial<SamplingOptions>[] = [
  {},
  { doSample: false },
  { topK: 5 },
  { topP: 0.5, minP: 0.01 },
  { typicalP: 0.6 },
  { repetitionPenalty: 1.4, logitBias: new Map([[3, 4]]), topK: 10 },
  { logits: row => void row.reverse(), topK: 3 },
]

function maskOf(isAllowed: (id: number) => boolean): Int32Array {
  const mask = new Int32Array(Math.ceil(V / 32) + 1)
  for (let id = 0; id < V; id++) if (isAllowed(id)) mask[id >> 5]! |= 1 << (id & 31)
  return mask
}

t.test('a mask is as good as logits of -Infinity behind penalties and hook', async t => {
  for (const more of OPTIONS) {
    for (let seed = 1; seed < 30; seed++) {
      const row = Float32Array.from({ length: V }, (_, id) => 5 * Math.sin(id * id * seed))
      const share = seed % 3 === 0 ? 0.05 : seed / 30
      const isAllowed = (id: number) => id === seed || Math.abs(Math.sin(id * 77 + seed)) < share
      const sequence = { promptIds: [3, 5, 7], endTokenIds: [2], stream: 0 }
      const allowed = { mask: maskOf(isAllowed), isComplete: false }
      const masked = new Sampler({ ...base, ...more }, { ...sequence, allowed })
      const ban = (logits: Float32Array, ids: readonly number[]) => {
        more.logits?.(logits, ids)
        for (let id = 0; id < V; id++) if (!isAllowed(id)) logits[id] = -Infinity
      }
      const hooked = new Sampler({ ...base, ...more, logits: ban }, sequence)
      t.same(masked.distribution(row), hooked.distribution(row))
      for (let i = 0; i < 3; i++) t.same(masked.sample(row), hooked.sample(row))
      t.equal(masked.takesTop(50), false)
    }
  }
})

t.test('minNewTokens gives way to a complete text', t => {
  const row = new Float32Array(V)
  const options = { ...base, minNewTokens: 5 }
  for (const isComplete of [true, false]) {
    const allowed = { mask: maskOf(id => id === 2), isComplete }
    const sampler = new Sampler(options, { promptIds: [], endTokenIds: [2], stream: 0, allowed })
    if (isComplete) t.equal(sampler.sample(row).tokenId, 2)
    else t.throws(() => sampler.sample(row), { name: 'RangeError', message: /the grammar allows/ })
  }
  t.end()
})

t.test('logits that are no distribution are still the device’s fault', t => {
  const allowed = { mask: maskOf(id => id < 4), isComplete: false }
  for (const value of [Number.NaN, Infinity, -Infinity]) {
    const sampler = new Sampler(base, { promptIds: [], endTokenIds: [], stream: 0, allowed })
    t.throws(() => sampler.sample(new Float32Array(V).fill(value)), { code: 'ERR_DEVICE' })
  }
  t.end()
})
