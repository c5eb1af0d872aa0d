/** The option `routing`: the experts of a text's tokens, in rows and in counts. */
import t from 'tap'
import { config, fakeModel, tokenizer } from './fake-model.js'

const PROMPT = 'The old man'
const ids = tokenizer.encode(PROMPT)

t.test('routing of every token that was computed, though the prompt is cached', async t => {
  const { model } = fakeModel({ maxStepTokens: 3 })
  await model.generate(PROMPT, { maxNewTokens: 4 })
  const { routing, usage, tokenIds } = await model.generate(PROMPT, {
    maxNewTokens: 4,
    routing: true,
  })
  t.equal(usage.cachedTokens, 0)
  const tokens = ids.length + 3
  t.equal(routing!.tokens, tokens)
  t.equal(routing!.layers.length, 2)
  const { captured } = await model.forward([...ids, ...tokenIds.slice(0, 3)], {
    capture: ['layers.*.expert_*'],
  })
  let picks = 0
  for (const [layer, { expertIndices, expertWeights }] of routing!.layers.entries()) {
    t.same(expertIndices, captured[`layers.${layer}.expert_indices`])
    t.same(expertWeights, captured[`layers.${layer}.expert_weights`])
    expertIndices.forEach((expert, i) => {
      if (expert < config.ffnExperts && expertWeights[i]! > 0) picks++
    })
  }
  t.ok(picks > 0)
  t.equal(routing!.ffnExpertsPerToken, picks / (2 * tokens))
})

t.test('tokens by the number of their FFN experts', async t => {
  const { model } = fakeModel({ maxStepTokens: 3 })
  const options = { maxNewTokens: 4, ignoreEos: true }
  const whole = (await model.generate(PROMPT, { ...options, routing: true })).routing!
  const expected = whole.layers.map(({ layer, expertIndices, expertWeights }) => {
    const tokens = [0, 0, 0]
    for (let t = 0; t < whole.tokens; t++) {
      const isFfn = [0, 1].filter(k => {
        const at = 2 * t + k
        return expertIndices[at]! < config.ffnExperts && expertWeights[at]! > 0
      })
      tokens[isFfn.length]!++
    }
    return { layer, tokens }
  })
  t.same(whole.counts, expected)
  t.ok(expected.some(({ tokens }) => tokens[0]! > 0 && tokens[1]! > 0))
  const { routing: cached } = await model.generate(PROMPT, { ...options, routing: 'counts' })
  t.equal(cached!.tokens, 4, 'without the cached tokens')
  const fresh = fakeModel({ maxStepTokens: 3 }).model
  const { routing } = await fresh.generate(PROMPT, { ...options, routing: 'counts' })
  const { tokens, ffnExpertsPerToken } = whole
  t.same(routing, { first: 0, tokens, layers: [], counts: expected, ffnExpertsPerToken })
  const { routing: computed } = await model.generate(PROMPT, { ...options, routing: 'computed' })
  t.same(computed!.counts, cached!.counts)
})

t.test('routing of the tokens that are not cached', async t => {
  const { model } = fakeModel({ maxStepTokens: 3 })
  const options = { maxNewTokens: 4, routing: 'computed' } as const
  const whole = (await model.generate(PROMPT, options)).routing!
  t.equal(whole.tokens, ids.length + 3)
  const { routing, usage } = await model.generate(PROMPT, options)
  t.equal(usage.cachedTokens, ids.length - 1)
  t.match(routing, { first: usage.cachedTokens, tokens: 4 })
  for (const [layer, { expertIndices }] of routing!.layers.entries())
    t.same(expertIndices, whole.layers[layer]!.expertIndices.slice(-expertIndices.length))
  t.equal(routing!.layers[0]!.expertIndices.length, 4 * config.topK)
})
