/** lm-evaluation-harness against the server: its scores are those of `model.score`, bit for bit. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { loadModel, type Model } from '../../lib/index.js'
import { type ServeOptions, serve } from '../../lib/server/index.js'
import { fakeModel } from '../generation/fake-model.js'
import { root } from '../support/golden.js'
import { random } from '../support/random.js'
import { type ClientOptions, HarnessClient, type Likelihood, type Pair } from './harness-client.js'

/** Tokens of a context: few, so that windows and cuts are there in short texts. */
const CONTEXT = 96

const books = join(root, 'models', 'books-7m')
const model = await loadModel(books, { contextLength: CONTEXT })
t.teardown(() => model.close())
const { tokenizer } = model
const text = readFileSync(join(books, 'heldout.txt'), 'utf8')

async function clientOf(
  t: Test,
  options: Partial<ClientOptions> = {},
  of: Model = model,
  how: ServeOptions = {},
): Promise<HarnessClient> {
  const server = await serve(of, { modelName: 'books', ...how })
  t.teardown(() => server.close())
  const url = await server.listen({ port: 0 })
  return new HarnessClient({ url, model: 'books', maxLength: CONTEXT, ...options })
}

/** By `model.score`. A context that is too long loses its first tokens. */
async function scored([context, continuation]: Pair): Promise<Likelihood> {
  const extra = Math.max(0, context.length + continuation.length - (CONTEXT - 1))
  const { logprob, greedy } = await model.score(context.slice(extra), continuation)
  return { logprob, isGreedy: greedy.every(Boolean) }
}

const allScored = (pairs: readonly Pair[]) => Promise.all(pairs.map(scored))

/** Ids of all kinds: bytes, control tokens, and such whose texts are the same. */
function randomPairs(): Pair[] {
  const next = random(7)
  const below = (count: number) => Math.floor(next() * count)
  const ids = (count: number, vocab = 2048) => Array.from({ length: count }, () => below(vocab))
  return Array.from({ length: 48 }, (_, i): Pair => {
    if (i < 8) return [ids(1), ids(1 + below(4))]
    if (i < 16) return [ids(1 + below(5), 300), ids(1 + below(6), 300)]
    // As long as the context holds, and longer.
    if (i < 20) return [ids(CONTEXT - 10 + 5 * (i - 16)), ids(6)]
    return [ids(1 + below(30)), ids(1 + below(8))]
  })
}

/** Continuations that are the model's own, and the same with another last token. */
async function greedyPairs(): Promise<Pair[]> {
  const prompts = Array.from({ length: 8 }, (_, i) =>
    tokenizer.encode(text.slice(900 * i, 900 * i + 40)),
  )
  const results = await model.generate(prompts, { maxNewTokens: 5, ignoreEos: true, logprobs: 2 })
  return results.flatMap(({ tokenIds, logprobs = [] }, i): Pair[] => [
    [prompts[i]!, tokenIds],
    [prompts[i]!, [...tokenIds.slice(0, -1), logprobs.at(-1)!.top[1]!.tokenId]],
  ])
}

t.test('log-likelihoods, in batches and several at a time', async t => {
  const greedy = await greedyPairs()
  const pairs = [...greedy, ...randomPairs()]
  const expected = await allScored(pairs)
  t.strictSame(
    expected.slice(0, greedy.length).map(({ isGreedy }) => isGreedy),
    greedy.map((_, i) => i % 2 === 0),
  )
  for (const batchSize of [1, 8])
    for (const concurrent of [1, 8]) {
      const client = await clientOf(t, { batchSize, concurrent })
      t.strictSame(await client.loglikelihoods(pairs), expected, `${batchSize} × ${concurrent}`)
    }
})

t.test('texts become tokens as the tokenizer makes them, without a begin token', async t => {
  const client = await clientOf(t, { concurrent: 8 })
  const texts: readonly (readonly [string, string])[] = [
    ['The old man', ' went to the sea'],
    ['It is said  ', 'that'],
    ['naïve café — “so”', ' 日本語 🙂'],
    ['Привет,\n\n\tмир', ' \u0000\ufffd\u2028'],
    ['', 'Once upon a time'],
  ]
  const pairs = await Promise.all(texts.map(([context, rest]) => client.pair(context, rest)))
  for (const [i, [context, rest]] of texts.entries()) {
    const whole = tokenizer.encode(context + rest, { addSpecialTokens: false })
    const prefix = context === '' ? [tokenizer.bosTokenId] : []
    t.strictSame(pairs[i]!.flat(), [...prefix, ...whole])
  }
  t.strictSame(await client.loglikelihoods(pairs), await allScored(pairs))
})

t.test('the begin and the end token have their ids, and their names', async t => {
  const client = await clientOf(t)
  t.equal(await client.prefixToken(), tokenizer.bosTokenId)
  t.strictSame(await client.encode('</s>'), [tokenizer.eosTokenId])
  t.strictSame(
    await client.encode('a </s>'),
    tokenizer.encode('a </s>', { addSpecialTokens: false }),
  )
})

t.test('whole texts, in windows', async t => {
  const client = await clientOf(t, { batchSize: 8, concurrent: 8 })
  for (const length of [1, 20, 900, 1500]) {
    const { logprob, windows } = await client.rolling(text.slice(0, length))
    const ids = tokenizer.encode(text.slice(0, length), { addSpecialTokens: false })
    t.strictSame(
      windows.flatMap(([, continuation]) => continuation),
      ids,
      'each token is predicted once',
    )
    t.equal(windows.length > 1, ids.length > client.maxLength - 1)
    const parts = await allScored(windows)
    t.equal(
      logprob,
      parts.reduce((sum, part) => sum + part.logprob, 0),
    )
  }
})

t.test('texts until a stop', async t => {
  const contexts = ['The old man', 'She said', text.slice(0, 900), '日本']
  const samplings = [{}, { temperature: 0.8, top_p: 0.95 }]
  for (const options of [{}, { batchSize: 8 }, { concurrent: 8 }]) {
    const client = await clientOf(t, options)
    for (const fields of samplings)
      for (const until of [['.', '\n'], [' the', ' a', ',', '!', '?'], []]) {
        const texts = await client.generateUntil(contexts, until, 12, fields)
        for (const [i, context] of contexts.entries()) {
          const ids = tokenizer.encode(context, { addSpecialTokens: false })
          const own = await model.generate(ids.slice(12 - client.maxLength), {
            maxNewTokens: 12,
            temperature: fields.temperature ?? 0,
            topP: fields.top_p,
            topK: 0,
            seed: 1234,
            stop: [...until, '</s>'],
          })
          t.equal(texts[i], own.text)
        }
      }
  }
})

t.test('a key', async t => {
  const how = { apiKeys: ['sesame'] }
  const client = await clientOf(t, { key: 'sesame' }, model, how)
  const pair = await client.pair('The old', ' man')
  t.strictSame(await client.loglikelihoods([pair]), [await scored(pair)])
  const stranger = await clientOf(t, {}, model, how)
  await t.rejects(stranger.encode('a'), /^401/)
  await t.rejects(stranger.loglikelihoods([[[1], [5]]]), /^401/)
})

t.test('of two tokens with one text the likelier one is greedy; of tied ones both are', async t => {
  const [byte, letter] = [tokenizer.tokenToId('<0x41>')!, tokenizer.tokenToId('A')!]
  const tied = [300, 301]
  const shape = (logits: Float32Array, token: number) => {
    logits.fill(0)
    if (token === 1) logits[byte] = 2
    else for (const id of tied) logits[id] = 2
  }
  const { model } = fakeModel({ shape })
  const client = await clientOf(t, { batchSize: 8 }, model)
  const continuations = [[byte], [letter], ...tied.map(id => [byte, id]), [byte, 299]]
  const likelihoods = await client.loglikelihoods(continuations.map(ids => [[1], ids]))
  t.strictSame(
    likelihoods.map(({ isGreedy }) => isGreedy),
    [true, false, true, true, false],
  )
})
