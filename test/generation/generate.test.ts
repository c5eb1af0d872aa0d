import { join } from 'node:path'
import t from 'tap'
import type { GenerateOptions } from '../../lib/options/generate.js'
import { loadTokenizer } from '../../lib/tokenizer/tokenizer.js'
import { golden } from '../support/golden.js'
import { config, continuing, EOS, fakeModel, pieces, tokenizer } from './fake-model.js'

const PROMPT = 'The old man'
const ids = tokenizer.encode(PROMPT)

/** Tokens that spell ", and so on", letter by letter where the vocabulary has no more. */
const words = (text: string) => tokenizer.encode(text, { addSpecialTokens: false })

t.test('text, tokens, usage and timings', async t => {
  const { model } = fakeModel()
  const result = await model.generate(PROMPT, { maxNewTokens: 8 })
  t.equal(result.finishReason, 'length')
  t.equal(result.tokenIds.length, 8)
  t.equal(tokenizer.decode(ids) + result.text, tokenizer.decode([...ids, ...result.tokenIds]))
  t.same(result.usage, { promptTokens: ids.length, generatedTokens: 8, cachedTokens: 0 })
  t.ok(Object.values(result.timings).every(value => Number.isFinite(value) && value >= 0))
  t.ok(result.timings.decodeTokensPerSecond > 0)
  t.equal(result.logprobs, undefined)
  t.equal(result.routing, undefined)

  const again = await model.generate(ids, { maxNewTokens: 8 })
  t.equal(again.text, result.text, 'token ids and Int32Array do the same as text')
  t.equal(again.usage.cachedTokens, ids.length - 1)
  t.equal((await model.generate(Int32Array.from(ids), { maxNewTokens: 8 })).text, result.text)
})

t.test('a text goes on after the prompt with its space', async t => {
  const { model } = fakeModel({ script: continuing(PROMPT, words('was here')) })
  const { text } = await model.generate(PROMPT, { maxNewTokens: words('was here').length })
  t.equal(text, ' was here')
})

t.test('special tokens in a text are tokens, or characters if told so', async t => {
  const byteLevel = await loadTokenizer(join(golden, 'tokenizer-byte-level/qwen-bpe'))
  const { model } = fakeModel({ tokenizer: byteLevel })
  for (const splitSpecialTokens of [false, true]) {
    const inText = byteLevel.encode('<|im_end|>', { splitSpecialTokens })
    t.equal(inText.length === 1, !splitSpecialTokens)
    const { usage } = await model.generate('<|im_end|>', { splitSpecialTokens, maxNewTokens: 1 })
    t.equal(usage.promptTokens, inText.length)
    const scored = await model.score('a', '<|im_end|>', { splitSpecialTokens })
    t.same(scored.tokenIds, inText)
  }
})

t.test('a batch gives what each prompt gives alone, in order', async t => {
  const options: GenerateOptions = { maxNewTokens: 12, temperature: 1, topK: 0, seed: 7 }
  const prompts = [PROMPT, [1, 9, 8], PROMPT, 'She said', [1, 5]]
  const { model } = fakeModel({ maxStepTokens: 8, pages: 20, contextLength: 40 })
  const batch = await model.generate(prompts, options)
  t.equal(batch.length, prompts.length)
  for (const [i, prompt] of prompts.entries()) {
    const alone = await fakeModel().model.generate(prompt, options as object)
    t.same(batch[i]!.tokenIds, alone.tokenIds)
    t.equal(batch[i]!.text, alone.text)
  }
  t.equal((await model.generate([PROMPT], options)).length, 1, 'a batch of one is an array')
})

t.test('concurrent calls are computed together and do not change each other', async t => {
  const { model, runner } = fakeModel({ maxStepTokens: 64 })
  const options = (seed: number) => ({ maxNewTokens: 20, temperature: 1, seed })
  const calls = [1, 2, 3, 4, 5].map(seed => model.generate(PROMPT, options(seed)))
  const together = await Promise.all(calls)
  t.ok(runner.steps.length <= 22, `${runner.steps.length} steps`)
  for (const [i, { text }] of together.entries()) {
    t.equal(text, (await fakeModel().model.generate(PROMPT, options(i + 1))).text)
  }
})

t.test('seeds: the same text, or another one', async t => {
  const { model } = fakeModel()
  const sampled = { maxNewTokens: 10, temperature: 1 }
  const [a, b] = await model.generate([PROMPT, PROMPT], { ...sampled, seed: 3 })
  t.equal(a!.text, b!.text)
  const [c, d] = await model.generate([PROMPT, PROMPT], sampled)
  t.not(c!.text, d!.text, 'without a seed, a prompt that comes twice gets two texts')
})

t.test('numReturnSequences: one prompt after the other, its first as alone', async t => {
  const { model, runner } = fakeModel()
  const options = { maxNewTokens: 6, temperature: 1, seed: 5 }
  const single = await model.generate(PROMPT, options)
  const computed = runner.computedTokens
  const three = await model.generate(PROMPT, { ...options, numReturnSequences: 3 })
  t.ok(Array.isArray(three) && three.length === 3)
  t.equal(runner.computedTokens - computed, 3 * 6, 'the prompt is computed once')
  const texts = (three as (typeof single)[]).map(({ text }) => text)
  t.equal(texts[0], single.text)
  t.equal(new Set(texts).size, 3)
  const batch = await model.generate(['She', PROMPT], { ...options, numReturnSequences: 2 })
  t.same(
    batch.slice(2).map(({ text }) => text),
    texts.slice(0, 2),
  )
  const preset = fakeModel({ generation: { numReturnSequences: 2, maxNewTokens: 3 } }).model
  t.equal(
    (await preset.generate(PROMPT)).tokenIds.length,
    3,
    "a checkpoint's preset makes no array",
  )
})

t.test('the end-of-sequence token ends the text, is in the tokens and not in the text', async t => {
  const script = continuing(PROMPT, [...words('was here'), EOS, ...words('never')])
  const { model } = fakeModel({ script })
  const result = await model.generate(PROMPT)
  t.equal(result.finishReason, 'stop')
  t.equal(result.text, ' was here')
  t.equal(result.tokenIds.at(-1), EOS)
  const more = await model.generate(PROMPT, { ignoreEos: true, maxNewTokens: script.size })
  t.match(more, { finishReason: 'length', text: ' was here never' })
  t.same(more.tokenIds, [...script.values()])
  const least = await model.generate(PROMPT, {
    minNewTokens: script.size,
    maxNewTokens: script.size,
  })
  t.notOk(least.tokenIds.includes(EOS))
})

t.test('stopTokenIds, and the end tokens of generation_config.json', async t => {
  const script = continuing(PROMPT, words('was here and there'))
  const [, end] = words('was and')
  t.match(await fakeModel({ script }).model.generate(PROMPT, { stopTokenIds: [end!] }), {
    finishReason: 'stop',
    text: ' was here',
    tokenIds: [...words('was here'), end],
  })
  const { model } = fakeModel({ script, generation: { eosTokenIds: [end!] } })
  t.equal((await model.generate(PROMPT)).text, ' was here')
})

t.test('a stop string across tokens', async t => {
  const { model } = fakeModel({ script: continuing(PROMPT, words('was here and there')) })
  for (const [stop, text] of [
    [' here an', ' was'],
    [['zebra', 'd t'], ' was here an'],
    ['was', ' '],
  ] as const) {
    const result = await model.generate(PROMPT, { stop })
    t.match(result, { finishReason: 'stop', text })
    t.equal(result.usage.generatedTokens, result.tokenIds.length)
  }
  const { length } = words('was here')
  t.match(
    await model.generate(PROMPT, { stop: ' here and', maxNewTokens: length }),
    { finishReason: 'length', text: ' was here' },
    'what only began like a stop string is in the text',
  )
})

t.test('logprobs: one entry a token, of the distribution before the options', async t => {
  const { model } = fakeModel()
  const result = await model.generate(PROMPT, {
    maxNewTokens: 4,
    logprobs: 3,
    logitBias: { 77: 100 },
  })
  t.same(
    result.logprobs!.map(({ tokenId }) => tokenId),
    result.tokenIds,
  )
  t.same(result.tokenIds, [77, 77, 77, 77])
  for (const { logprob, top } of result.logprobs!) {
    t.equal(top.length, 3)
    t.ok(logprob <= top[0]!.logprob && top[0]!.logprob < 0)
  }
  const zero = await model.generate(PROMPT, { maxNewTokens: 2, logprobs: 0 })
  t.same(
    zero.logprobs!.map(({ top }) => top),
    [[], []],
  )
})

t.test('the context bounds the text', async t => {
  const { model } = fakeModel({ contextLength: 10 })
  t.match(await model.generate([1, 2, 3, 4], { ignoreEos: true }), {
    finishReason: 'length',
    usage: { generatedTokens: 6 },
  })
  t.match(await model.generate([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), {
    finishReason: 'length',
    text: '',
    tokenIds: [],
    usage: { promptTokens: 10 },
  })
  const message = 'prompt[1]: has 11 tokens, but the context holds 10'
  await t.rejects(model.generate([[1], Array(11).fill(3)]), { code: 'ERR_BAD_PROMPT', message })
  const small = fakeModel({ pages: 2 }).model
  await t.rejects(small.generate(Array(9).fill(3)), {
    message: 'prompt: has 9 tokens, but the KV cache holds 8',
  })
})

t.test('the presets of the checkpoint, and the length of a text', async t => {
  const generation = { temperature: 0.5, topK: 9, bosTokenId: 1, eosTokenIds: [2] }
  const { model } = fakeModel({ generation })
  t.same(model.presets, { temperature: 0.5, topK: 9 })
  t.ok(Object.isFrozen(model.presets))
  t.equal(model.contextLength, 200)
  const small = fakeModel({ pages: 2 }).model
  t.equal(small.contextLength, 8, 'what the KV cache holds')
  t.same(small.presets, {})
})

t.test('maxNewTokens 0 computes the prompt alone', async t => {
  const { model, runner } = fakeModel({ maxStepTokens: 3 })
  const none = { text: '', tokenIds: [], finishReason: 'length' }
  for (const options of [{}, { temperature: 1 }, { logprobs: 2 }, { grammar: { regex: 'a' } }]) {
    const result = await model.generate(PROMPT, { ...options, maxNewTokens: 0 })
    t.match(result, { ...none, usage: { promptTokens: ids.length, generatedTokens: 0 } })
    t.ok(result.timings.prefillMs > 0)
    t.equal(result.timings.decodeMs, 0)
  }
  t.ok(runner.computedTokens >= ids.length)
  t.equal(model.stats().generatedTokens, 0)
  const { usage } = await model.generate(PROMPT, { maxNewTokens: 1 })
  t.equal(usage.cachedTokens, ids.length - 1, 'the prompt is in the cache')
  const stream = model.stream(PROMPT, { maxNewTokens: 0 })
  for await (const _ of stream) t.fail('no chunk')
  t.match(await stream.result, none)
})

t.test('prompts that are none', async t => {
  const { model } = fakeModel()
  const bad = { code: 'ERR_BAD_PROMPT' }
  await t.rejects(model.generate(''), bad)
  await t.rejects(model.generate([]), bad)
  await t.rejects(model.generate(['a', '']), { ...bad, message: /^prompt\[1\]/ })
  await t.rejects(model.generate([[1], []]), bad)
  await t.rejects(model.generate('', { addSpecialTokens: false }), bad)
  t.throws(() => model.stream(''), bad)
  const table: [prompt: unknown, error: { name: string; message?: string | RegExp }][] = [
    [
      [1, -1],
      { name: 'RangeError', message: `prompt[1]: expected a token id from 0 to 2047, got -1` },
    ],
    [[1, 2048], { name: 'RangeError' }],
    [[1.5], { name: 'RangeError' }],
    [[Number.NaN], { name: 'RangeError' }],
    [[[1], [2, -7]], { name: 'RangeError', message: /^prompt\[1\]\[1\]/ }],
    [[1, 'a'], { name: 'TypeError' }],
    [['a', 1], { name: 'TypeError' }],
    [undefined, { name: 'TypeError' }],
    [null, { name: 'TypeError' }],
    [{}, { name: 'TypeError' }],
    [5, { name: 'TypeError' }],
  ]
  for (const [prompt, error] of table) await t.rejects(model.generate(prompt as string), error)
  await t.rejects(model.generate(PROMPT, { maxTokens: 5 } as object), { name: 'TypeError' })
  await t.rejects(model.generate(PROMPT, { temperature: Number.NaN }), { name: 'RangeError' })
})

t.test('without a tokenizer: ids in, ids out', async t => {
  const { model } = fakeModel({ hasTokenizer: false })
  const bad = { code: 'ERR_BAD_TOKENIZER' }
  const result = await model.generate([1, 5], { maxNewTokens: 3 })
  t.match(result, { text: '', usage: { generatedTokens: 3 } })
  await t.rejects(model.generate('text'), bad)
  await t.rejects(model.generate([1, 5], { stop: 'x' }), bad)
  t.throws(() => model.tokenizer, bad)
  const chunks = []
  for await (const chunk of model.stream([1, 5], { maxNewTokens: 3 }))
    chunks.push(chunk.tokenIds.length)
  t.same(chunks, [1, 1, 1])
})

t.test('an abort resolves with what there is', async t => {
  const { model, runner } = fakeModel()
  const aborted = AbortSignal.abort()
  t.match(await model.generate(PROMPT, { signal: aborted }), {
    finishReason: 'abort',
    text: '',
    tokenIds: [],
    usage: { promptTokens: 0, generatedTokens: 0 },
  })
  t.equal(runner.steps.length, 0)
  const controller = new AbortController()
  const { signal } = controller
  let steps = 0
  const delay = async () => {
    if (++steps === 10) controller.abort()
    await new Promise(resolve => setTimeout(resolve, 1))
  }
  const slow = fakeModel({ delay }).model
  const results = await slow.generate([PROMPT, 'She'], {
    signal,
    maxNewTokens: 190,
    ignoreEos: true,
  })
  for (const { finishReason, tokenIds, text } of results) {
    t.equal(finishReason, 'abort')
    t.ok(tokenIds.length > 0 && tokenIds.length < 190)
    t.ok(text.length > 0)
  }
})

t.test('an error of one prompt ends the whole call, and the model goes on', async t => {
  const { model, runner } = fakeModel()
  const bans = new Map(
    Array.from({ length: config.vocabSize }, (_, id) => [id, Number.NEGATIVE_INFINITY]),
  )
  await t.rejects(model.generate([PROMPT, 'She'], { logitBias: bans }), { name: 'RangeError' })
  runner.failures.push(new Error('broken'))
  await t.rejects(model.generate([PROMPT, 'She']), { message: 'broken' })
  t.equal((await model.generate(PROMPT, { maxNewTokens: 2 })).tokenIds.length, 2)
})

t.test('closing', async t => {
  const { model, runner } = fakeModel()
  const pending = t.rejects(model.generate([PROMPT, 'She']), { code: 'ERR_CLOSED' })
  await new Promise(resolve => setTimeout(resolve, 5))
  await model.close()
  await pending
  t.ok(runner.closed)
  await model.close()
  const closed = { code: 'ERR_CLOSED' }
  await t.rejects(model.generate(PROMPT), closed)
  await t.rejects(model.forward([1]), closed)
  await t.rejects(model.score('a', 'b'), closed)
  t.throws(() => model.stream(PROMPT), closed)
  t.equal(model.tokenizer, tokenizer)
  {
    const disposed = fakeModel()
    await disposed.model[Symbol.asyncDispose]()
    t.ok(disposed.runner.closed)
  }
})

t.test('half a character at the end', async t => {
  const [a, b, c] = pieces('<0xE2>', '<0x82>', '<0xAC>')
  const script = continuing(PROMPT, [a!, b!, c!, a!, b!])
  const { model } = fakeModel({ script })
  t.equal((await model.generate(PROMPT, { maxNewTokens: 3 })).text, '€')
  t.equal(
    (await model.generate(PROMPT, { maxNewTokens: 5 })).text,
    '€\uFFFD\uFFFD',
    'as decoding gives it',
  )
})

t.test('an abort gives out the text of all tokens, also what was held back', async t => {
  const script = continuing(PROMPT, words('was here and there'))
  const { model } = fakeModel({ script })
  const controller = new AbortController()
  const { length } = words('was here')
  let count = 0
  const result = await model.generate(PROMPT, {
    stop: ' here and now',
    signal: controller.signal,
    logits: () => {
      if (count++ === length) controller.abort()
    },
  })
  t.equal(result.finishReason, 'abort')
  t.ok(result.tokenIds.length >= length)
  const all = tokenizer.decode([...ids, ...result.tokenIds])
  t.equal(tokenizer.decode(ids) + result.text, all)
  t.match(result.text, ' here')
})
