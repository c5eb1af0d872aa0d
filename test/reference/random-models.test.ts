/**
 * Random small MoE++ models against the f64 reference.
 *
 * MOEPP_RANDOM_MODELS and MOEPP_RANDOM_SEED run a longer campaign.
 */
import t from 'tap'
import { type LoadOptions, loadModel } from '../../lib/index.js'
import { directoryWith } from '../checkpoint/files.js'
import { logprob } from './decoder-f64.js'
import { Random } from './random-checkpoint.js'
import {
  checkModel,
  compareGenerated,
  counts,
  randomPrompts,
  sharingPrompt,
} from './random-model.js'
import { randomMoepp } from './random-moepp.js'
import { distance, Reference } from './reference-text.js'

const COUNT = Number(process.env.MOEPP_RANDOM_MODELS ?? 40)
const FIRST_SEED = Number(process.env.MOEPP_RANDOM_SEED ?? 1)
const CORNER_SEED = Number(process.env.MOEPP_RANDOM_SEED ?? 500)

for (let seed = FIRST_SEED; seed < FIRST_SEED + COUNT; seed++) {
  const checkpoint = randomMoepp(seed)
  t.test(`model ${seed}`, async t => {
    t.comment(checkpoint.description)
    const random = new Random(seed + 1e6)
    const directory = directoryWith(t.testdir(), 'model', checkpoint.files)
    const { vocab } = checkpoint
    const reference = new Reference(checkpoint)
    const steps = 12
    const texts = randomPrompts(random, vocab).map(prompt => reference.text(prompt, steps))
    const later = [1, 2].map(() => reference.text(sharingPrompt(random, texts, vocab), steps))
    for (const options of [{}, { dtype: 'float32', threads: random.integer(1, 5) }] as const) {
      const problems = await checkModel(directory, reference, { texts, later }, options)
      t.equal(problems.join('\n'), '', JSON.stringify(options))
    }
  })
}

// Corners

interface Corner {
  readonly name: string
  readonly config: Readonly<Record<string, unknown>>
  readonly lengths: readonly number[]
  readonly steps: number
  readonly options?: LoadOptions
}

const SMALL = {
  vocab_size: 61,
  hidden_size: 24,
  intermediate_size: 19,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  num_experts: [9],
  pretraining_tp: 1,
}
const ONES = {
  vocab_size: 1,
  hidden_size: 2,
  num_attention_heads: 1,
  num_key_value_heads: 1,
  pretraining_tp: 1,
}
const dynamic = (max_position_embeddings: number) => ({
  ...SMALL,
  rope_scaling: { type: 'dynamic', factor: 2 },
  max_position_embeddings,
})
const crowd = Array.from({ length: 20 }, (_, i) => 20 + 2 * i)

const corners: readonly Corner[] = [
  {
    name: 'least sizes',
    config: { ...ONES, intermediate_size: 1, num_experts: [4], max_position_embeddings: 1 },
    lengths: [1, 33],
    steps: 3,
  },
  {
    name: 'two tokens',
    config: { ...ONES, vocab_size: 2, num_experts: [5] },
    lengths: [1, 2, 40],
    steps: 12,
  },
  {
    name: 'matrices of several tiles',
    config: { ...SMALL, vocab_size: 515, hidden_size: 220, intermediate_size: 259 },
    lengths: [70, 19],
    steps: 3,
  },
  { name: 'several chunks', config: SMALL, lengths: [513, 1, 64], steps: 4 },
  { name: 'several chunks, dynamic RoPE', config: dynamic(510), lengths: [508, 700, 30], steps: 6 },
  {
    name: 'the context ends',
    config: dynamic(20),
    lengths: [1, 31, 32, 33, 39],
    steps: 60,
    options: { contextLength: 40 },
  },
  {
    name: 'more texts than the cache holds',
    config: dynamic(30),
    lengths: crowd,
    steps: 40,
    options: { kvCacheTokens: 160 },
  },
  {
    name: 'the cache is one page',
    config: dynamic(9),
    lengths: [3, 30, 20],
    steps: 40,
    options: { kvCacheTokens: 32 },
  },
]

for (const [i, { name, config, lengths, steps, options = {} }] of corners.entries()) {
  t.test(name, async t => {
    const checkpoint = randomMoepp(CORNER_SEED + i, config)
    t.comment(checkpoint.description)
    const random = new Random(CORNER_SEED + i)
    const reference = new Reference(checkpoint)
    const { vocab } = checkpoint
    const limit = Math.min(options.contextLength ?? Infinity, options.kvCacheTokens ?? Infinity)
    const text = (prompt: readonly number[]) =>
      reference.text(prompt, Math.min(steps, limit - prompt.length))
    const texts = lengths.map(length => text(random.ids(length, vocab)))
    const shared = [1, 2].map(() => sharingPrompt(random, texts, vocab).slice(0, limit - 1))
    const later = shared.map(text)
    const directory = directoryWith(t.testdir(), 'model', checkpoint.files)
    const problems = await checkModel(
      directory,
      reference,
      { texts: [...texts, texts[0]!], later },
      options,
    )
    t.equal(problems.join('\n'), '')
  })
}

t.test('sampled texts have the probabilities of their tokens', async t => {
  const checkpoint = randomMoepp(CORNER_SEED + 100, dynamic(12))
  const reference = new Reference(checkpoint)
  await using model = await loadModel(directoryWith(t.testdir(), 'model', checkpoint.files))
  const prompt = new Random(7).ids(9, 61)
  const options = {
    ignoreEos: true,
    temperature: 3,
    seed: 3,
    maxNewTokens: 20,
    logprobs: 61,
    routing: true,
  }
  const results = await model.generate([prompt, prompt.slice(0, 5)], {
    ...options,
    numReturnSequences: 3,
  })
  t.equal(results.length, 6)
  t.equal(new Set(results.map(result => `${result.tokenIds}`)).size, 6, 'each is a text of its own')
  for (const [i, result] of results.entries()) {
    const text = reference.text(i < 3 ? prompt : prompt.slice(0, 5), 20, result.tokenIds)
    t.equal(compareGenerated(reference, text, result).join('\n'), '', `text ${i}`)
    const whole = reference.text([...text.prompt, ...text.tokens.slice(0, -1)], 1)
    const score = await model.score(text.prompt, text.tokens)
    const wanted = text.tokens.map((token, k) =>
      logprob(whole.positions[text.prompt.length + k - 1]!, token),
    )
    const { worst } = distance([score.logprobs], [wanted])
    if (whole.clear >= text.prompt.length + 19)
      t.ok(worst <= 2 * reference.tolerance('logits'), `score off by ${worst}`)
  }
})

t.test('little is too close to compare', async t => {
  const { positions, unclearPositions, tokens, unclearTokens } = counts
  t.comment(JSON.stringify(counts))
  t.ok(unclearPositions < 0.05 * positions, `${unclearPositions} positions of ${positions}`)
  t.ok(unclearTokens < 0.05 * tokens, `${unclearTokens} tokens of ${tokens}`)
})
