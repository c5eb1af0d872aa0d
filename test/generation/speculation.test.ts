/** The option `speculate` saves steps, and changes no bit of a result. */
import t from 'tap'
import type { GenerateOptions } from '../../lib/options/generate.js'
import { goldenCase } from '../support/golden.js'
import { compareGuesses, content } from './compare-guesses.js'
import { continuing, EOS, fakeModel, tokenizer } from './fake-model.js'

const PROMPT = 'The old man'
const words = (text: string) => tokenizer.encode(text, { addSpecialTokens: false })
const phrase = words('was here and then he was there, ')
const answer = Array.from({ length: 6 }, () => phrase).flat()
const speculate = { ngram: 2, tokens: 6 }

const OPTIONS: Readonly<Record<string, GenerateOptions>> = {
  greedy: {},
  'largest logits': { logprobs: 3 },
  'whole rows': { logprobs: 30 },
  sampled: { temperature: 1, seed: 3, logprobs: 2 },
  'whole distribution': { temperature: 0.8, topK: 0, topP: 0.95, minP: 0.01, seed: 4 },
  penalties: { repetitionPenalty: 1.02, frequencyPenalty: 0.01, presencePenalty: 0.01 },
  'banned repetition': { noRepeatNgramSize: 5 },
  bias: { logitBias: { 77: 2 } },
  'a hook': {
    logits: (logits, ids) => {
      logits[ids.length % 50]! += 1
    },
  },
  routing: { routing: true },
  'stop string': { stop: ['he was there, was here and', 'zebra'] },
  'stop string of the last phrase': { stop: 'he was there, was here and'.repeat(2) },
  'end token': { stopTokenIds: [phrase.at(-2)!] },
  'few tokens': { maxNewTokens: 3 },
  'no tokens to guess': { maxNewTokens: 1 },
}

/** A stream's chunks and its result. */
async function run(options: GenerateOptions) {
  const script = continuing(PROMPT, [...answer, EOS])
  const { model, runner } = fakeModel({ script, maxStepTokens: 64 })
  const stream = model.stream(PROMPT, options)
  const chunks = []
  for await (const { text, tokenIds, routing } of stream) chunks.push({ text, tokenIds, routing })
  return { chunks, result: await stream.result, steps: runner.steps.length, stats: model.stats() }
}

for (const [name, options] of Object.entries(OPTIONS)) {
  t.test(name, async t => {
    const plain = await run(options)
    const { chunks, result, steps, stats } = await run({ ...options, speculate })
    t.same(content(result), content(plain.result))
    t.same(chunks, plain.chunks, 'in the same chunks')
    const { draftedTokens, acceptedTokens } = result.usage
    t.equal(steps, plain.steps - acceptedTokens!)
    if (result.tokenIds.length > 3 * phrase.length) t.ok(acceptedTokens! > phrase.length)
    t.match(stats, { draftedTokens, acceptedTokens, generatedTokens: result.tokenIds.length })
    t.equal('draftedTokens' in plain.result.usage, false)
  })
}

t.test('an abort within right guesses', async t => {
  const script = continuing(PROMPT, answer)
  const { model } = fakeModel({ script })
  const controller = new AbortController()
  const { signal } = controller
  let rows = 0
  const logits = () => {
    if (++rows === 2 * phrase.length + 3) controller.abort()
  }
  const result = await model.generate(PROMPT, { speculate, signal, logits })
  t.equal(result.finishReason, 'abort')
  t.same(result.tokenIds, answer.slice(0, rows))
})

t.test('true is 3 and 8, false is nothing', async t => {
  const results = []
  for (const speculate of [{ ngram: 3, tokens: 8 }, true, {}, false, undefined]) {
    const { model } = fakeModel({ script: continuing(PROMPT, answer) })
    results.push((await model.generate(PROMPT, { speculate, maxNewTokens: 60 })).usage)
  }
  t.ok(results[0]!.acceptedTokens! > 0)
  t.same(results[1], results[0])
  t.same(results[2], results[0])
  t.equal(results[3]!.draftedTokens, undefined)
  t.same(results[4], results[3])
})

t.test('a real model, with fewer heads of keys than of queries', async t => {
  const counts = await compareGuesses(t, goldenCase('gqa', 'moepp'), { device: 'cpu' })
  t.ok(counts.accepted > 50 && counts.drafted > counts.accepted, JSON.stringify(counts))
})
