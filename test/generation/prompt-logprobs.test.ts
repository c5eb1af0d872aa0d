/** Log-probabilities of a prompt: those of `score`, the same alone and among others. */
import t from 'tap'
import { type GenerateResult, loadModel } from '../../lib/index.js'
import { tokenLogprobs } from '../../lib/sampling/sampler.js'
import { chatCheckpoint } from '../support/chat-checkpoint.js'
import { goldenCase, ONE_OF_EACH_FAMILY } from '../support/golden.js'
import { config, fakeModel } from './fake-model.js'

const V = config.vocabSize
const tokens = [1, 9, 8, 7, 6, 5, 4, 3, 9, 10]
const others = [
  [1, 9, 8, 7, 6],
  [1, 9, 8, 7, 6, 5, 4, 3, 9, 10, 11, 12],
]

const alone = (alternatives: number, options: object = {}) =>
  fakeModel().model.generate(tokens, { promptLogprobs: alternatives, maxNewTokens: 0, ...options })

t.test('each token after those before it, with the likeliest', async t => {
  const { logits } = await fakeModel().model.forward(tokens)
  for (const alternatives of [0, 1, 3, 100, V]) {
    const { promptLogprobs } = await alone(alternatives)
    const expected = tokens.slice(1).map((token, i) => {
      return tokenLogprobs(logits.subarray(i * V, (i + 1) * V), token, alternatives)
    })
    t.strictSame(promptLogprobs, [null, ...expected], `${alternatives} alternatives`)
  }
  t.equal((await fakeModel().model.generate(tokens)).promptLogprobs, undefined)
})

t.test('a token among the alternatives has the same double there; ties go by id', async t => {
  const shape = (logits: Float32Array) => {
    logits.fill(0)
    logits[7] = 2
  }
  const { model } = fakeModel({ shape })
  const { promptLogprobs = [] } = await model.generate([1, 7, 0, 3], {
    promptLogprobs: 4,
    maxNewTokens: 1,
  })
  for (const entry of promptLogprobs.slice(1)) {
    const { tokenId, logprob, top } = entry!
    t.same(
      top.map(each => each.tokenId),
      [7, 0, 1, 2],
    )
    t.equal(top.find(each => each.tokenId === tokenId)?.logprob ?? top[1]!.logprob, logprob)
  }
})

t.test('the same in chunks, in batches, after a preemption and from a warm cache', async t => {
  const expected = (await alone(3)).promptLogprobs
  const options = { promptLogprobs: 3, maxNewTokens: 12, ignoreEos: true }
  for (const tight of [{ maxStepTokens: 3 }, { maxLogitRows: 4 }, { pages: 9 }]) {
    const { model, runner } = fakeModel(tight)
    for (const round of ['cold', 'warm']) {
      const results = await model.generate([...others, tokens], options)
      t.strictSame(results[2]!.promptLogprobs, expected, `${JSON.stringify(tight)}, ${round}`)
      t.equal(results[2]!.usage.cachedTokens, 0)
    }
    t.ok(runner.steps.every(({ logitRows }) => logitRows.length <= runner.maxLogitRows))
    t.equal(model.stats().preemptions > 0, 'pages' in tight)
  }
})

t.test('the text stays as it is', async t => {
  for (const options of [{}, { temperature: 1, seed: 3 }, { temperature: 1, topK: 0, seed: 4 }]) {
    const plain = { ...options, maxNewTokens: 8, logprobs: 2 }
    const { tokenIds, logprobs } = await fakeModel().model.generate(tokens, plain)
    const stream = fakeModel().model.stream(tokens, { ...plain, promptLogprobs: 2 })
    const result = await stream.result
    t.strictSame(result.tokenIds, tokenIds)
    t.strictSame(result.logprobs, logprobs)
    t.equal(result.promptLogprobs?.length, tokens.length)
  }
})

t.test('a prompt of one token, and one that fills the context', async t => {
  const { model } = fakeModel({ contextLength: 10 })
  t.strictSame((await model.generate([1], { promptLogprobs: 2 })).promptLogprobs, [null])
  const full = await model.generate(tokens, { promptLogprobs: 3 })
  t.equal(full.finishReason, 'length')
  t.strictSame(full.promptLogprobs, (await alone(3)).promptLogprobs)
})

t.test('an abort leaves what there is', async t => {
  const controller = new AbortController()
  const { model, runner } = fakeModel({
    maxStepTokens: 2,
    delay: async () => {
      if (runner.steps.length === 3) controller.abort()
    },
  })
  const { signal } = controller
  const result: GenerateResult = await model.generate(tokens, { promptLogprobs: 3, signal })
  t.equal(result.finishReason, 'abort')
  t.strictSame(result.promptLogprobs, (await alone(3)).promptLogprobs!.slice(0, 5))
})

t.test('a chat reports the tokens of its prompt', async t => {
  await using model = await loadModel(chatCheckpoint(t.testdir()), { device: 'cpu' })
  const messages = [{ role: 'user', content: 'Name a river.' }] as const
  const { promptLogprobs = [], usage } = await model.chat(messages, {
    promptLogprobs: 1,
    maxNewTokens: 0,
  })
  t.equal(promptLogprobs.length, usage.promptTokens)
  const ids = promptLogprobs.slice(1).map(entry => entry!.tokenId)
  const text = await model.tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true })
  t.same(ids, model.tokenizer.encode(text).slice(1))
})

for (const [family, name] of ONE_OF_EACH_FAMILY) {
  t.test(`${family}/${name}: the bits of score, alone and in a batch`, async t => {
    await using model = await loadModel(goldenCase(name, family), { device: 'cpu' })
    const { vocabSize } = model.config
    const prompts = [70, 33, 150].map((length, i) =>
      Array.from({ length }, (_, k) => (31 * i + 17 * k + 3) % vocabSize),
    )
    const options = { promptLogprobs: 2, maxNewTokens: 3, ignoreEos: true }
    const batch = await model.generate(prompts, options)
    for (const [i, prompt] of prompts.entries()) {
      const { promptLogprobs = [] } = await model.generate(prompt, options)
      t.strictSame(batch[i]!.promptLogprobs, promptLogprobs, 'alone')
      const { logprobs, greedy } = await model.score(prompt.slice(0, 1), prompt.slice(1))
      const own = promptLogprobs.slice(1)
      t.strictSame(
        own.map(entry => entry!.logprob),
        logprobs,
        'score',
      )
      t.same(
        own.map(entry => entry!.tokenId === entry!.top[0]!.tokenId),
        greedy,
      )
      const { logits } = await model.forward(prompt)
      for (const [at, entry] of own.entries()) {
        const row = logits.subarray(at * vocabSize, (at + 1) * vocabSize)
        const exact = tokenLogprobs(row, prompt[at + 1]!, 0).logprob
        if (!(Math.abs(entry!.logprob - exact) < 2e-6)) t.fail(`position ${at + 1}`)
      }
    }
  })
}
