/** Random small MoE++ models against the f64 reference. */
import t from 'tap'
import { loadModel } from '../../lib/index.js'
import { directoryWith } from '../checkpoint/files.js'
import { logprob } from './decoder-f64.js'
import { Random } from './random-checkpoint.js'
import { compareGenerated } from './random-model.js'
import { randomMoepp } from './random-moepp.js'
import {
  CORNER_SEED,
  type Corner,
  exactCounts,
  testClarity,
  testCorners,
  testQuantised,
  testRandomModels,
} from './random-tests.js'
import { distance, Reference } from './reference-text.js'

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

const CORNERS: readonly Corner[] = [
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

/** Rows of three blocks of quantised weights, and of two. */
const WIDE = { ...SMALL, hidden_size: 272, intermediate_size: 140 }

testRandomModels('model', 12, randomMoepp)
testQuantised('model', 12, randomMoepp)
testQuantised('wide model', 3, seed => randomMoepp(seed, WIDE))
testCorners('model', CORNERS, randomMoepp)

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
    t.equal(compareGenerated(reference, text, result, exactCounts).join('\n'), '', `text ${i}`)
    const whole = reference.text([...text.prompt, ...text.tokens.slice(0, -1)], 1)
    const score = await model.score(text.prompt, text.tokens)
    const wanted = text.tokens.map((token, k) =>
      logprob(whole.positions[text.prompt.length + k - 1]!.logits, token),
    )
    const { worst } = distance([score.logprobs], [wanted])
    if (whole.clear >= text.prompt.length + 19)
      t.ok(worst <= 2 * reference.tolerance('logits'), `score off by ${worst}`)
  }
})

testClarity()
