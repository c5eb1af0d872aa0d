import t from 'tap'
import { tokenLogprobs } from '../../lib/sampling/sampler.js'
import { config, fakeModel, tokenizer } from './fake-model.js'

const V = config.vocabSize
const tokens = [1, 9, 8, 7, 6, 5, 4, 3, 9, 10]

t.test('logits of all positions, bitwise whatever the chunks and the batch', async t => {
  const whole = await fakeModel({ maxStepTokens: 100 }).model.forward(tokens)
  t.equal(whole.logits.length, tokens.length * V)
  t.same(whole.captured, {})
  const { model } = fakeModel({ maxStepTokens: 3 })
  t.same((await model.forward(tokens)).logits, whole.logits)
  t.same((await model.forward(Int32Array.from(tokens))).logits, whole.logits, 'also a second time')
  const batch = await model.forward([tokens.slice(0, 4), tokens, [1]])
  t.same(batch[0]!.logits, whole.logits.slice(0, 4 * V))
  t.same(batch[1]!.logits, whole.logits)
  t.equal(batch[2]!.logits.length, V)
  const { tokenIds } = await model.generate(tokens, { maxNewTokens: 1 })
  const last = whole.logits.slice(-V)
  t.equal(tokenIds[0], last.indexOf(Math.max(...last)))
})

t.test('captured buffers by name and by pattern', async t => {
  const { model } = fakeModel({ maxStepTokens: 4 })
  const { captured } = await model.forward(tokens, {
    capture: ['layers.*.router_logits', 'layers.0.expert_indices'],
  })
  t.same(Object.keys(captured).sort(), [
    'layers.0.expert_indices',
    'layers.0.router_logits',
    'layers.1.router_logits',
  ])
  t.equal(captured['layers.1.router_logits']!.length, tokens.length * config.experts)
  t.ok(captured['layers.0.expert_indices'] instanceof Int32Array)
  const whole = await fakeModel({ maxStepTokens: 100 }).model.forward(tokens, {
    capture: ['*.*.*'],
  })
  t.same(captured['layers.1.router_logits'], whole.captured['layers.1.router_logits'])
  t.equal(Object.keys(whole.captured).length, 6)
  const message =
    'capture[0]: expected one of layers.{0..1}.router_logits, layers.{0..1}.expert_indices, ' +
    'layers.{0..1}.expert_weights, got "layers.7.router_logits"'
  await t.rejects(model.forward(tokens, { capture: ['layers.7.router_logits'] }), {
    name: 'RangeError',
    message,
  })
  await t.rejects(model.forward(tokens, { capture: ['layersX0.router_logits'] }), {
    name: 'RangeError',
  })
  await t.rejects(model.forward(tokens, { capture: 'x' as never }), { name: 'TypeError' })
  await t.rejects(model.forward(tokens, { capture: [3] as never }), { name: 'TypeError' })
  await t.rejects(model.forward(tokens, { captured: [] } as object), {
    name: 'TypeError',
    message: 'unknown option "captured": did you mean capture?',
  })
})

t.test('without logits the device returns the largest of the last token alone', async t => {
  const { model, runner } = fakeModel({ maxStepTokens: 4 })
  const capture = ['layers.*.expert_weights', 'layers.1.router_logits']
  const whole = await model.forward(tokens, { capture })
  runner.steps.length = 0
  const { logits, captured, ...rest } = await model.forward(tokens, { capture, logits: false })
  t.equal(logits.length, 0)
  t.same(captured, whole.captured)
  t.same(rest, {})
  t.same(
    runner.steps.map(({ wanted, logitRows }) => [wanted.whole, logitRows.length]),
    [
      [false, 0],
      [false, 0],
      [false, 1],
    ],
  )
  t.same(await model.forward(tokens, { logits: false }), { logits, captured: {} })
})

t.test('routing of a forward pass, beside captured buffers that it takes, too', async t => {
  const { model } = fakeModel({ maxStepTokens: 3 })
  const capture = ['layers.*.expert_weights', 'layers.0.router_logits']
  for (const logits of [true, false]) {
    const { routing, captured } = await model.forward(tokens, { capture, routing: true, logits })
    t.equal(routing!.tokens, tokens.length)
    t.same(Object.keys(captured).sort(), [
      'layers.0.expert_weights',
      'layers.0.router_logits',
      'layers.1.expert_weights',
    ])
    for (const { layer, topK, kinds, expertIndices, expertWeights } of routing!.layers) {
      t.equal(topK, config.topK)
      t.equal(kinds.length, config.experts)
      t.same(
        kinds.map(kind => kind === 'ffn'),
        kinds.map((_, expert) => expert < config.ffnExperts),
      )
      t.equal(expertIndices.length, tokens.length * topK)
      t.same(expertWeights, captured[`layers.${layer}.expert_weights`])
    }
    const generated = await model.generate(tokens, { maxNewTokens: 0, routing: true })
    t.same(routing, generated.routing)
  }
  await t.rejects(model.forward(tokens, { routing: 'counts' } as object), {
    message: 'routing: expected true or false, got "counts"',
  })
  await t.rejects(model.forward(tokens, { logits: 1 } as object), {
    message: 'logits: expected true or false, got 1',
  })
})

t.test('forward refuses what it cannot compute', async t => {
  const { model } = fakeModel({ contextLength: 12 })
  await t.rejects(model.forward([]), { code: 'ERR_BAD_PROMPT' })
  await t.rejects(model.forward([[1], []]), { code: 'ERR_BAD_PROMPT' })
  await t.rejects(model.forward('text' as never), { name: 'TypeError' })
  await t.rejects(model.forward([1, -1]), { name: 'RangeError' })
  await t.rejects(model.forward(Array(13).fill(1)), { code: 'ERR_BAD_PROMPT' })
  const signal = AbortSignal.abort()
  await t.rejects(model.forward(tokens, { signal }), { code: 'ERR_ABORTED' })
  const controller = new AbortController()
  const pending = t.rejects(model.forward(tokens, { signal: controller.signal }), {
    code: 'ERR_ABORTED',
  })
  controller.abort()
  await pending
  await t.rejects(model.forward(tokens, { signal: 1 } as object), { name: 'TypeError' })
})

t.test('score agrees with forward', async t => {
  const { model } = fakeModel({ maxStepTokens: 4 })
  const { logits } = await model.forward(tokens)
  const likeliest = (position: number) => {
    const row = logits.subarray(position * V, (position + 1) * V)
    return row.indexOf(Math.max(...row))
  }
  const score = await model.score(tokens.slice(0, 6), tokens.slice(6))
  t.same(score.tokenIds, tokens.slice(6))
  const expected = [5, 6, 7, 8].map(
    position =>
      tokenLogprobs(logits.subarray(position * V, (position + 1) * V), tokens[position + 1]!, 0)
        .logprob,
  )
  t.same(score.logprobs, expected)
  t.same(score.greedy, [false, false, false, false])
  t.equal(
    score.logprob,
    expected.reduce((a, b) => a + b),
  )
  const greedy = await model.score(tokens, [likeliest(9)])
  t.same(greedy.greedy, [true])
})

t.test('score cuts texts as one', async t => {
  const { model, runner } = fakeModel()
  const whole = tokenizer.encode('The old man was here')
  const { tokenIds } = await model.score('The old man', ' was here')
  t.same(tokenIds, whole.slice(tokenizer.encode('The old man').length))
  const mixed = await model.score('The old man', tokenIds)
  t.same(mixed.tokenIds, tokenIds)
  t.ok(runner.computedTokens < 2 * (whole.length - 1), 'the second one had most of its keys')
  t.same((await model.score(tokenizer.encode('The old man'), tokenIds)).logprobs, mixed.logprobs)
  const across = await model.score('The old m', 'an was')
  t.same(
    across.tokenIds,
    tokenizer.encode('The old man was').slice(3),
    'a token on the border is the second one',
  )
  const fromNothing = await model.score('', 'The old man')
  t.same(fromNothing.tokenIds, tokenizer.encode('The old man', { addSpecialTokens: false }))
  await t.rejects(model.score('', 'The', { addSpecialTokens: false }), { code: 'ERR_BAD_PROMPT' })
  await t.rejects(model.score('The', ''), { code: 'ERR_BAD_PROMPT' })
  await t.rejects(model.score([1], []), { code: 'ERR_BAD_PROMPT' })
  await t.rejects(model.score([1], [-3]), { name: 'RangeError' })
  await t.rejects(model.score('a', 'b', { signal: AbortSignal.abort() }), { code: 'ERR_ABORTED' })
  await t.rejects(model.score('a', 'b', { echo: true } as object), {
    name: 'TypeError',
    message: 'unknown option "echo": expected one of addSpecialTokens, splitSpecialTokens, signal',
  })
})
