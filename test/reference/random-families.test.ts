/**
 * Random small models of the other families against the f64 reference.
 *
 * MOEPP_RANDOM_MODELS and MOEPP_RANDOM_SEED run a longer campaign.
 */
import t from 'tap'
import type { LoadOptions } from '../../lib/index.js'
import { directoryWith } from '../checkpoint/files.js'
import { FAMILIES } from '../support/golden.js'
import { Random } from './random-checkpoint.js'
import { type OtherFamily, randomOfFamily } from './random-families.js'
import { checkModel, counts, randomPrompts, sharingPrompt } from './random-model.js'
import { Reference } from './reference-text.js'

const COUNT = Number(process.env.MOEPP_RANDOM_MODELS ?? 12)
const FIRST_SEED = Number(process.env.MOEPP_RANDOM_SEED ?? 1)

const families = FAMILIES.filter((family): family is OtherFamily => family !== 'moepp')

for (const family of families) {
  for (let seed = FIRST_SEED; seed < FIRST_SEED + COUNT; seed++) {
    t.test(`${family} ${seed}`, async t => {
      const checkpoint = randomOfFamily(family, seed)
      t.comment(checkpoint.description)
      const random = new Random(seed + 1e6)
      const reference = new Reference(checkpoint)
      const { vocab } = checkpoint
      const texts = randomPrompts(random, vocab).map(prompt => reference.text(prompt, 12))
      const later = [1, 2].map(() => reference.text(sharingPrompt(random, texts, vocab), 12))
      for (const { positions } of texts)
        t.ok(positions.at(-1)!.logits.every(Number.isFinite), 'the reference computes numbers')
      const directory = directoryWith(t.testdir(), 'model', checkpoint.files)
      for (const options of [{}, { dtype: 'float32', threads: random.integer(1, 5) }] as const) {
        const problems = await checkModel(directory, reference, { texts, later }, options)
        t.equal(problems.join('\n'), '', JSON.stringify(options))
      }
    })
  }
}

// Corners

interface Corner {
  readonly name: string
  readonly config: Readonly<Record<string, unknown>>
  readonly lengths: readonly number[]
  readonly steps: number
  readonly options?: LoadOptions
}

const SMALL = { vocab_size: 61, hidden_size: 40, num_hidden_layers: 2, num_attention_heads: 2 }

const corners: readonly Corner[] = [
  {
    name: 'matrices of several tiles',
    config: { ...SMALL, vocab_size: 515, hidden_size: 220, head_dim: 36 },
    lengths: [70, 19],
    steps: 3,
  },
  { name: 'several chunks', config: SMALL, lengths: [513, 1, 64], steps: 4 },
  {
    name: 'more texts than the cache holds',
    config: SMALL,
    lengths: Array.from({ length: 20 }, (_, i) => 20 + 2 * i),
    steps: 40,
    options: { kvCacheTokens: 160 },
  },
]

for (const family of families) {
  for (const [i, { name, config, lengths, steps, options = {} }] of corners.entries()) {
    t.test(`${family}, ${name}`, async t => {
      const checkpoint = randomOfFamily(family, 500 + i, { ...config, num_key_value_heads: 1 })
      t.comment(checkpoint.description)
      const random = new Random(500 + i)
      const reference = new Reference(checkpoint)
      const { vocab } = checkpoint
      const limit = options.kvCacheTokens ?? Number.POSITIVE_INFINITY
      const text = (prompt: readonly number[]) =>
        reference.text(prompt, Math.min(steps, limit - prompt.length))
      const texts = lengths.map(length => text(random.ids(length, vocab)))
      const shared = [1, 2].map(() => sharingPrompt(random, texts, vocab).slice(0, limit - 1))
      const directory = directoryWith(t.testdir(), 'model', checkpoint.files)
      const all = { texts: [...texts, texts[0]!], later: shared.map(text) }
      const problems = await checkModel(directory, reference, all, options)
      t.equal(problems.join('\n'), '')
    })
  }
}

t.test('little is too close to compare', async t => {
  const { positions, unclearPositions, tokens, unclearTokens } = counts
  t.comment(JSON.stringify(counts))
  t.ok(unclearPositions < 0.05 * positions, `${unclearPositions} positions of ${positions}`)
  t.ok(unclearTokens < 0.05 * tokens, `${unclearTokens} tokens of ${tokens}`)
})
