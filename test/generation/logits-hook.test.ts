/** The option `logits`: a caller's function between the model and the sampler. */
import t from 'tap'
import type { GenerateOptions } from '../../lib/options/generate.js'
import { config, EOS, fakeModel, tokenizer } from './fake-model.js'

const PROMPT = 'The old man'
const ids = tokenizer.encode(PROMPT)
const nothing = () => {}

/** A hook that leaves one token: the one that `choose` gives for the text so far. */
const only = (choose: (tokenIds: readonly number[]) => number) => {
  return (logits: Float32Array, tokenIds: readonly number[]) => {
    const chosen = choose(tokenIds)
    logits.fill(-Infinity)
    logits[chosen] = 0
  }
}

t.test('the hook sees the whole row and the text so far, and decides', async t => {
  const seen: { length: number; tokenIds: readonly number[] }[] = []
  const forced = [300, 301, 302, EOS]
  const { model } = fakeModel()
  const result = await model.generate(PROMPT, {
    logits: (logits, tokenIds) => {
      seen.push({ length: logits.length, tokenIds })
      only(() => forced[tokenIds.length - ids.length]!)(logits, tokenIds)
    },
  })
  t.same(result.tokenIds, forced)
  t.equal(result.finishReason, 'stop')
  t.same(
    seen,
    forced.map((_, i) => ({ length: config.vocabSize, tokenIds: [...ids, ...forced.slice(0, i)] })),
  )
})

t.test('a hook that changes nothing changes nothing', async t => {
  const { model, runner } = fakeModel()
  const table: GenerateOptions[] = [
    {},
    { logprobs: 3 },
    { temperature: 0.8, seed: 3, logprobs: 3 },
    { temperature: 1, seed: 4, topK: 0, topP: 0.9, repetitionPenalty: 1.3 },
    { repetitionPenalty: 1.2, noRepeatNgramSize: 2, logitBias: { 5: 3 }, minNewTokens: 4 },
  ]
  for (const options of table) {
    const more = { ...options, maxNewTokens: 12 }
    const before = await model.generate(PROMPT, more)
    const after = await model.generate(PROMPT, { ...more, logits: nothing })
    t.same(after.tokenIds, before.tokenIds)
    // From whole rows sums differ from those of a device in their last bits.
    const close = (a: number, b: number) => Math.abs(a - b) < 1e-4
    t.ok((after.logprobs ?? []).every((x, i) => close(x.logprob, before.logprobs![i]!.logprob)))
  }
  t.ok(runner.steps.some(({ wanted }) => wanted.whole && !wanted.top))
})

t.test('it comes after penalties and bias, and before the cuts of sampling', async t => {
  const { model } = fakeModel()
  await model.generate(PROMPT, {
    maxNewTokens: 1,
    minNewTokens: 1,
    logitBias: { 7: -Infinity },
    temperature: 0.5,
    topK: 1,
    logits: logits => {
      t.equal(logits[7], -Infinity, 'a banned token')
      t.equal(logits[EOS], -Infinity, 'held back by minNewTokens')
      t.equal(logits.filter(x => x === -Infinity).length, 2, 'topK has not cut yet')
    },
  })
  // A token outside of the largest logits that a device returns.
  const { tokenIds } = await model.generate(PROMPT, {
    maxNewTokens: 3,
    temperature: 1,
    topK: 1,
    logits: logits => {
      logits[1234] = 99
    },
  })
  t.same(tokenIds, [1234, 1234, 1234])
})

t.test('logprobs are those of the model', async t => {
  const { model } = fakeModel()
  const plain = await model.generate(PROMPT, { maxNewTokens: 1, logprobs: 5 })
  const hooked = await model.generate(PROMPT, {
    maxNewTokens: 1,
    logprobs: 5,
    logits: only(() => 77),
  })
  t.same(hooked.tokenIds, [77])
  t.same(
    hooked.logprobs![0]!.top.map(({ tokenId }) => tokenId),
    plain.logprobs![0]!.top.map(({ tokenId }) => tokenId),
  )
})

t.test('what it throws ends its call with that very thing, and nothing else', async t => {
  const { model } = fakeModel({ pages: 100 })
  const sampled = { maxNewTokens: 20, temperature: 1, seed: 6 }
  const alone = await fakeModel().model.generate('She said', sampled)
  for (const thrown of [new Error('mine'), undefined, 'text', null]) {
    let calls = 0
    const failing = model.generate([PROMPT, PROMPT], {
      ...sampled,
      logits: () => {
        if (++calls === 5) throw thrown
      },
    })
    const beside = model.generate('She said', sampled)
    const outcome = await failing.then(
      () => t.fail('it did not fail'),
      error => ({ error }),
    )
    t.same(outcome, { error: thrown })
    t.equal((outcome as { error: unknown }).error, thrown)
    t.same((await beside).tokenIds, alone.tokenIds)
  }
  const thrown = new Error('in a stream')
  const stream = model.stream(PROMPT, {
    logits: () => {
      throw thrown
    },
  })
  await t.rejects(stream.next(), thrown)
  await t.rejects(stream.result, thrown)
  t.same((await model.generate('She said', sampled)).tokenIds, alone.tokenIds, 'and later')
})

t.test('no distribution: an error that names the hook', async t => {
  const { model } = fakeModel()
  const table: [hook: NonNullable<GenerateOptions['logits']>, name: string, message: RegExp][] = [
    [
      l => void l.fill(Number.NaN, 9, 10),
      'RangeError',
      /^logits: the hook left the logit of token 9 is/,
    ],
    [
      l => void l.fill(Infinity, 9, 10),
      'RangeError',
      /the hook left the logit of token 9 is Infinity/,
    ],
    [l => void l.fill(-Infinity), 'RangeError', /^logits: the hook left all 2048 logits are -Inf/],
    [async () => {}, 'TypeError', /^logits: expected a synchronous function/],
    [
      async () => Promise.reject(new Error('late')),
      'TypeError',
      /^logits: expected a synchronous function/,
    ],
    [
      l => void structuredClone(l, { transfer: [l.buffer as ArrayBuffer] }),
      'TypeError',
      /detached its array/,
    ],
  ]
  for (const [logits, name, message] of table) {
    for (const temperature of [0, 1]) {
      await t.rejects(model.generate(PROMPT, { temperature, logits }), { name, message })
    }
  }
  t.throws(() => model.stream(PROMPT, { logits: 5 } as never), {
    name: 'TypeError',
    message: 'logits: expected a function, got 5',
  })
})

t.test('a kept array, and views of it, harm nobody', async t => {
  const { model, runner } = fakeModel({ pages: 100 })
  const options = { maxNewTokens: 10, temperature: 1, seed: 2 }
  const plain = await model.generate(PROMPT, options)
  const kept: Float32Array[] = []
  const spoiling = model.generate(PROMPT, {
    ...options,
    logits: (logits, tokenIds) => {
      for (const array of kept) {
        if (array !== logits) Object.setPrototypeOf(array, null)
      }
      kept.push(logits)
      Object.defineProperty(logits, 'length', { value: 1e15 })
      Object.setPrototypeOf(logits, { set: nothing })
      ;(tokenIds as number[]).length = 0
    },
  })
  const timer = setInterval(() => {
    for (const array of kept) for (let i = 0; i < 2048; i++) array[i] = Number.NaN
  }, 0)
  const [spoiled, beside] = await Promise.all([spoiling, model.generate(PROMPT, options)])
  clearInterval(timer)
  t.same(spoiled.tokenIds, plain.tokenIds)
  t.same(beside.tokenIds, plain.tokenIds)
  t.ok(runner.steps.length > 0)
})

t.test('numReturnSequences and batches: each text has calls of its own', async t => {
  const { model } = fakeModel({ pages: 200 })
  const heads = new Map<string, number>()
  const results = await model.generate([PROMPT, 'She said'], {
    numReturnSequences: 3,
    maxNewTokens: 4,
    temperature: 1,
    logits: (_, tokenIds) => {
      const text = tokenIds.join()
      heads.set(text, (heads.get(text) ?? 0) + 1)
    },
  })
  t.equal(results.length, 6)
  for (const [i, { tokenIds }] of results.entries()) {
    const prompt = i < 3 ? ids : tokenizer.encode('She said')
    for (let n = 0; n < 4; n++) t.ok(heads.has([...prompt, ...tokenIds.slice(0, n)].join()))
  }
  t.equal(
    [...heads.values()].reduce((a, b) => a + b, 0),
    24,
  )
})

t.test('other texts of the step keep to the largest logits', async t => {
  const { model, runner } = fakeModel()
  const plain = await model.generate('She said', { maxNewTokens: 8 })
  const before = runner.steps.length
  const [, beside] = await Promise.all([
    model.generate(PROMPT, { maxNewTokens: 8, logits: nothing }),
    model.generate('She said', { maxNewTokens: 8 }),
  ])
  t.same(beside.tokenIds, plain.tokenIds)
  t.ok(runner.steps.slice(before).some(({ wanted }) => wanted.whole && wanted.top))
})
