/** The routing that a stream's chunks tell: together they are that of the whole result. */
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { ChunkRouting, GenerateOptions, GenerateResult, Model } from '../../lib/index.js'
import { loadModel } from '../../lib/index.js'
import { chatCheckpoint } from '../support/chat-checkpoint.js'
import { goldenCase, root } from '../support/golden.js'
import { continuing, EOS, fakeModel, pieces, tokenizer } from './fake-model.js'

const PROMPT = 'The old man'
const ids = tokenizer.encode(PROMPT)

interface Told {
  readonly result: GenerateResult
  /** The tokens and the routing of each chunk. */
  readonly chunks: { readonly tokens: number; readonly routing: ChunkRouting | undefined }[]
}

async function read(
  stream: ReturnType<Model['stream']> | ReturnType<Model['streamChat']>,
): Promise<Told> {
  const chunks: Told['chunks'] = []
  for await (const { tokenIds, routing } of stream)
    chunks.push({ tokens: tokenIds.length, routing })
  return { chunks, result: await stream.result }
}

/** By the routing's rows: the mean over layers of each token's FFN experts. */
function meansOf({ tokens, layers }: NonNullable<GenerateResult['routing']>): number[] {
  return Array.from({ length: tokens }, (_, token) => {
    const counts = layers.map(({ topK, kinds, expertIndices, expertWeights }) => {
      const at = Array.from({ length: topK }, (_, k) => token * topK + k)
      return at.filter(i => kinds[expertIndices[i]!] === 'ffn' && expertWeights[i]! > 0).length
    })
    return counts.reduce((sum, count) => sum + count, 0) / layers.length
  })
}

/** @returns the experts of all chunks, one token behind the other */
function checkTold(t: Test, { chunks, result }: Told): number[] {
  const { routing, usage } = result
  const all: number[] = []
  for (const { routing: told } of chunks) {
    t.equal(told?.first, routing!.first + all.length, 'without gap or overlap')
    t.equal(told?.promptTokens, usage.promptTokens)
    all.push(...told!.ffnExperts)
  }
  t.equal(all.length, routing!.tokens)
  if (routing!.layers.length > 0) t.same(all, meansOf(routing!))
  const mean = all.reduce((sum, each) => sum + each, 0) / all.length
  t.ok(Math.abs(mean - routing!.ffnExpertsPerToken) < 1e-9)
  return all
}

t.test('a token comes one chunk late, and the last one never', async t => {
  const { model } = fakeModel({ maxStepTokens: 2 })
  const options = { maxNewTokens: 6, ignoreEos: true }
  const told = await read(model.stream(PROMPT, { ...options, routing: true }))
  const all = checkTold(t, told)
  t.equal(told.chunks[0]!.routing!.ffnExperts.length, ids.length, 'the prompt')
  t.equal(all.length, ids.length + 5)
  t.ok(new Set(all).size > 1)
  const computed = await read(model.stream(PROMPT, { ...options, routing: 'computed' }))
  t.equal(computed.chunks[0]!.routing!.first, ids.length - 1, 'behind the cached tokens')
  t.same(checkTold(t, computed), all.slice(ids.length - 1))
  const counts = await read(model.stream(PROMPT, { ...options, routing: 'counts' }))
  t.same(counts.chunks, computed.chunks)
  checkTold(t, counts)
  const none = await read(model.stream(PROMPT, options))
  t.ok(none.chunks.every(({ routing }) => routing === undefined))
})

t.test('text that is held back, an end token, a stop string', async t => {
  const bytes = pieces('<0xE2>', '<0x82>', '<0xAC>', '<0xF0>', '<0x9F>', '<0x98>', '<0x80>')
  const whole = { script: continuing(PROMPT, [...bytes, EOS]) }
  const told = await read(fakeModel(whole).model.stream(PROMPT, { routing: true }))
  checkTold(t, told)
  t.same(
    told.chunks.map(({ tokens, routing }) => [tokens, routing!.ffnExperts.length]),
    [
      [3, ids.length + 2],
      [4, 4],
      [1, 1],
    ],
  )
  const words = tokenizer.encode('was here and there, as ever', { addSpecialTokens: false })
  const { model } = fakeModel({ script: continuing(PROMPT, words) })
  for (const stop of [' here and', 'there,', 'e and there'])
    checkTold(t, await read(model.stream(PROMPT, { stop, routing: true })))
})

t.test('no new tokens', async t => {
  const { model } = fakeModel()
  const told = await read(model.stream(PROMPT, { maxNewTokens: 0, routing: true }))
  t.equal(told.chunks.length, 1)
  t.equal(checkTold(t, told).length, ids.length)
  t.same((await read(model.stream(PROMPT, { maxNewTokens: 0 }))).chunks, [])
})

t.test('a grammar that ends a text', async t => {
  const { model } = fakeModel()
  const stopTokenIds: number[] = []
  for (const ignoreEos of [true, false]) {
    const options: GenerateOptions = { grammar: { regex: 'abc|de' }, ignoreEos, stopTokenIds }
    checkTold(t, await read(model.stream(PROMPT, { ...options, routing: true })))
  }
})

t.test('an answer of a chat', async t => {
  await using model = await loadModel(chatCheckpoint(t.testdir()))
  const text = '<think>\nA river.\n</think>\n\nThe Glomma.<|im_end|>'
  const answer = model.tokenizer.encode(text, { addSpecialTokens: false })
  for (const maxNewTokens of [100, 9, 0]) {
    let at = 0
    const logits = (row: Float32Array) => {
      row.fill(-Infinity)
      row[answer[at++]!] = 0
    }
    const options = { maxNewTokens, logits, routing: true }
    const stream = model.streamChat([{ role: 'user', content: 'Name a river.' }], options)
    checkTold(t, await read(stream))
  }
})

/** Several texts at once, with and without guesses, where the KV cache does not hold them all. */
async function checkCrowd(t: Test, directory: string): Promise<void> {
  const load = (kvCacheTokens: number) =>
    loadModel(directory, { device: 'cpu', contextLength: 256, kvCacheTokens })
  await using roomy = await load(1024)
  await using tight = await load(256)
  const { vocabSize } = roomy.config
  const prompts = Array.from({ length: 4 }, (_, i) =>
    Array.from({ length: 50 + i }, (_, k) => (31 * i + 17 * (k % 12) + 3) % vocabSize),
  )
  /** Makes texts likely to repeat what came 12 tokens before. */
  const logits = (row: Float32Array, text: readonly number[]) => {
    row[text.at(-12)!]! += 8
  }
  const options = { maxNewTokens: 90, ignoreEos: true, temperature: 0.5, seed: 5, logits }
  const all = (model: Model, more: GenerateOptions) =>
    Promise.all(prompts.map(prompt => read(model.stream(prompt, { ...options, ...more }))))
  const expected = await all(roomy, { routing: true })
  for (const told of expected) checkTold(t, told)
  const guessed = await all(tight, { routing: true, speculate: { ngram: 1, tokens: 5 } })
  t.ok(tight.stats().preemptions > 0, 'some were preempted')
  t.ok(
    tight.stats().acceptedTokens > 0 && tight.stats().acceptedTokens < tight.stats().draftedTokens,
  )
  for (const [i, told] of guessed.entries())
    t.same(checkTold(t, told), checkTold(t, expected[i]!), `text ${i}`)
  for (const told of await all(tight, { routing: 'computed', speculate: true })) checkTold(t, told)
}

t.test('books-7m', t => checkCrowd(t, join(root, 'models', 'books-7m')))
t.test('a Qwen3-MoE++', t => checkCrowd(t, goldenCase('constant', 'qwen3_moe_plus_plus')))
