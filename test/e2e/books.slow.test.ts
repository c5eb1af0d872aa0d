/**
 * The bundled model end to end: its published figures, and that how tokens are computed never
 * changes them.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type LoadOptions, loadModel, type Model } from '../../lib/index.js'
import { readJson, root } from '../support/golden.js'

const directory = join(root, 'models', 'books-7m')

interface Reference {
  readonly float32: { readonly perplexity: number; readonly ffn_experts_per_token: number }
  readonly bfloat16: { readonly perplexity: number }
  readonly greedy: {
    readonly prompt: string
    readonly prompt_ids: number[]
    readonly ids: number[]
    readonly text: string
  }
}

const reference = readJson<Reference>(join(directory, 'reference.json'))
const heldout = readFileSync(join(directory, 'heldout.txt'), 'utf8')

const FEW = 32

/**
 * Protocol of the model card: windows of 256 ids, each after BOS alone; perplexity over all full
 * windows, or the first `most`.
 */
async function perplexity(options: LoadOptions, most = Infinity): Promise<number> {
  await using model = await loadModel(directory, options)
  const ids = model.tokenizer!.encode(heldout, { addSpecialTokens: false })
  const windows = Math.min(most, Math.floor(ids.length / 256))
  const scores = await Promise.all(
    Array.from({ length: windows }, (_, w) => model.score([1], ids.slice(256 * w, 256 * (w + 1)))),
  )
  const logprobs = scores.flatMap(score => score.logprobs)
  t.equal(logprobs.length, 256 * Math.min(most, 338))
  return Math.exp(-logprobs.reduce((a, b) => a + b, 0) / logprobs.length)
}

t.test('perplexity', async t => {
  const got = await perplexity({ dtype: 'float32' })
  const want = reference.float32.perplexity
  t.ok(Math.abs(got / want - 1) < 0.005, `${got} is within 0.5 % of ${want}`)
  t.comment(`perplexity ${got.toFixed(4)}, the model card says ${want.toFixed(4)}`)
})

t.test('bf16 weights and a bf16 cache cost little', async t => {
  const exact = await perplexity({ dtype: 'float32' }, FEW)
  for (const options of [{ dtype: 'bfloat16' }, { kvCacheDtype: 'bfloat16' }] as const) {
    const got = await perplexity(options, FEW)
    t.ok(Math.abs(got / exact - 1) < 0.005, `${got} is within 0.5 % of ${exact}`)
  }
  const { float32, bfloat16 } = reference
  t.ok(Math.abs(bfloat16.perplexity / float32.perplexity - 1) < 0.005, 'on the model card, too')
})

t.test('greedy continuation', async t => {
  await using model = await loadModel(directory, { dtype: 'float32' })
  const { prompt, prompt_ids, ids, text } = reference.greedy
  const options = { maxNewTokens: ids.length, ignoreEos: true }
  const result = await model.generate(prompt, options)
  t.same(result.tokenIds, ids)
  t.equal(result.text.trimStart(), text.trimStart())
  t.equal(result.usage.promptTokens, prompt_ids.length)
  t.same((await model.generate(prompt_ids, options)).tokenIds, ids)
})

t.test('FFN experts per token', async t => {
  await using model = await loadModel(directory)
  const ids = model.tokenizer!.encode(heldout.slice(0, 20000)).slice(0, 2048)
  const { routing } = await model.generate(ids, { maxNewTokens: 1, routing: true })
  const want = reference.float32.ffn_experts_per_token
  t.ok(
    Math.abs(routing!.ffnExpertsPerToken - want) < 0.1,
    `${routing!.ffnExpertsPerToken} is close to ${want}`,
  )
  t.equal(routing!.layers.length, model.config.layers)
})

/** Logits of every position, computed token by token through the cache. */
async function decodedLogits(model: Model, ids: readonly number[]): Promise<number[][]> {
  const rows: number[][] = []
  for (let length = 1; length <= ids.length; length++) {
    const { logprobs } = await model.generate(ids.slice(0, length), {
      maxNewTokens: 1,
      logprobs: 20,
    })
    rows.push(logprobs![0]!.top.flatMap(({ tokenId, logprob }) => [tokenId, logprob]))
  }
  return rows
}

for (const dtype of ['auto', 'int8', 'int4', 'int4-all'] as const) {
  t.test(`${dtype}: prefill, decode, batch and threads agree bit by bit`, async t => {
    const ids = [1, ...readJsonIds(96)]
    await using two = await loadModel(directory, { dtype, threads: 2 })
    await using one = await loadModel(directory, { dtype, threads: 1 })
    const whole = await two.forward(ids)
    t.same((await one.forward(ids)).logits, whole.logits, 'one thread is two')
    const V = two.config.vocabSize
    const prefix = await two.forward(ids.slice(0, 41))
    t.same(
      prefix.logits,
      whole.logits.subarray(0, 41 * V),
      'a prefix is the beginning of the whole',
    )
    const batch = await two.forward([ids.slice(0, 7), ids, ids.slice(0, 60)])
    t.same(batch[1]!.logits, whole.logits, 'in a batch as alone')
    // Each call finds the one before in the cache, so that all but the last token come from
    // decode-sized steps.
    const stepwise = await decodedLogits(two, ids)
    await using fresh = await loadModel(directory, { dtype })
    for (const length of [1, 2, 31, 32, 33, 64, 65, 97]) {
      const { logprobs } = await fresh.generate(ids.slice(0, length), {
        maxNewTokens: 1,
        logprobs: 20,
      })
      const alone = logprobs![0]!.top.flatMap(({ tokenId, logprob }) => [tokenId, logprob])
      t.same(stepwise[length - 1], alone, `${length} tokens one by one are the prefill`)
    }
  })
}

function readJsonIds(count: number): number[] {
  return Array.from({ length: count }, (_, i) => 3 + ((i * 7919) % 2040))
}

t.test('a long prompt is computed in chunks, bit by bit as any', async t => {
  await using model = await loadModel(directory)
  const ids = [1, ...readJsonIds(1300)]
  const { logits } = await model.forward(ids)
  const V = model.config.vocabSize
  const { logits: prefix } = await model.forward(ids.slice(0, 700))
  t.same(prefix, logits.subarray(0, 700 * V))
})

t.test('the event loop stays free', async t => {
  await using model = await loadModel(directory)
  let ticks = 0
  const timer = setInterval(() => ticks++, 10)
  const started = performance.now()
  await model.generate(['The old man', 'Once upon a time', 'It was'], {
    maxNewTokens: 400,
    ignoreEos: true,
    temperature: 1,
    seed: 1,
  })
  clearInterval(timer)
  const possible = (performance.now() - started) / 10
  t.ok(ticks > possible / 10, `${ticks} ticks of ${possible.toFixed(0)} possible ones`)
})
