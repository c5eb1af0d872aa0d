/**
 * The tests of random small models: free ones, quantised ones, and corners that few seeds reach.
 *
 * MOEPP_RANDOM_MODELS and MOEPP_RANDOM_SEED run a longer campaign.
 */
import t from 'tap'
import { loadBinding } from '../../lib/addon/binding.js'
import type { Isa, LoadOptions } from '../../lib/index.js'
import { directoryWith } from '../checkpoint/files.js'
import { Random, type RandomCheckpoint } from './random-checkpoint.js'
import { type Counts, checkModel, randomPrompts, sharingPrompt } from './random-model.js'
import { Reference } from './reference-text.js'

/** `forced` keys of config.json replace what the seed would choose. */
export type Checkpoints = (
  seed: number,
  forced?: Readonly<Record<string, unknown>>,
) => RandomCheckpoint

/** A configuration, the lengths of prompts, and the number of tokens that follow each. */
export interface Corner {
  readonly name: string
  readonly config: Readonly<Record<string, unknown>>
  readonly lengths: readonly number[]
  readonly steps: number
  readonly options?: LoadOptions
}

/** Texts of several steps, and more texts than fit. */
export function cornersOfLength(config: Corner['config']): Corner[] {
  return [
    { name: 'several chunks', config, lengths: [513, 1, 64], steps: 4 },
    {
      name: 'more texts than the cache holds',
      config,
      lengths: Array.from({ length: 20 }, (_, i) => 20 + 2 * i),
      steps: 40,
      options: { kvCacheTokens: 160 },
    },
  ]
}

const MODELS = process.env.MOEPP_RANDOM_MODELS
const SEED = process.env.MOEPP_RANDOM_SEED
const FIRST_SEED = Number(SEED ?? 1)
export const CORNER_SEED = Number(SEED ?? 500)

const QUANTISED = ['int8', 'int4', 'int4-all'] as const
const newCounts = (): Counts => ({ positions: 0, unclearPositions: 0, tokens: 0, unclearTokens: 0 })
export const exactCounts = newCounts()
const quantisedCounts = newCounts()

/** Models take turns on the instruction sets. */
const isas = loadBinding().processor().isas as readonly Isa[]
const isaOf = (seed: number) => isas[seed % isas.length]!

/** So many models, each as stored and in f32. */
export function testRandomModels(name: string, count: number, checkpoints: Checkpoints): void {
  for (let seed = FIRST_SEED; seed < FIRST_SEED + Number(MODELS ?? count); seed++) {
    t.test(`${name} ${seed}`, async t => {
      const checkpoint = checkpoints(seed)
      t.comment(checkpoint.description)
      const random = new Random(seed + 1e6)
      const reference = new Reference(checkpoint)
      const { vocab } = checkpoint
      const texts = randomPrompts(random, vocab).map(prompt => reference.text(prompt, 12))
      const later = [1, 2].map(() => reference.text(sharingPrompt(random, texts, vocab), 12))
      for (const { positions } of texts)
        t.ok(positions.at(-1)!.logits.every(Number.isFinite), 'the reference computes numbers')
      const directory = directoryWith(t.testdir(), 'model', checkpoint.files)
      const threads = random.integer(1, 5)
      const single: LoadOptions = { dtype: 'float32', threads, isa: isaOf(seed) }
      for (const options of [{}, single]) {
        const problems = await checkModel(
          directory,
          reference,
          { texts, later },
          options,
          exactCounts,
        )
        t.equal(problems.join('\n'), '', JSON.stringify(options))
      }
    })
  }
}

/**
 * So many models, one with each type in turn. Their texts have few tokens: an input that may be
 * rounded either way ends what is compared of a text. A position has hundreds of inputs.
 */
export function testQuantised(name: string, count: number, checkpoints: Checkpoints): void {
  for (let seed = FIRST_SEED; seed < FIRST_SEED + Number(MODELS ?? count); seed++) {
    const dtype = QUANTISED[seed % QUANTISED.length]!
    t.test(`${name} ${seed}, ${dtype}`, async t => {
      const checkpoint = checkpoints(seed)
      t.comment(checkpoint.description)
      const random = new Random(seed + 2e6)
      const reference = new Reference(checkpoint, dtype)
      const newPrompt = () => random.ids(random.integer(1, 2), checkpoint.vocab)
      const texts = Array.from({ length: 16 }, () => reference.text(newPrompt(), 2))
      const directory = directoryWith(t.testdir(), 'model', checkpoint.files)
      const threads = random.integer(1, 5)
      const options = { dtype, kvCacheDtype: 'float32', threads, isa: isaOf(seed) } as const
      const all = { texts, later: [] }
      const problems = await checkModel(directory, reference, all, options, quantisedCounts)
      t.equal(problems.join('\n'), '')
    })
  }
}

export function testCorners(
  name: string,
  corners: readonly Corner[],
  checkpoints: Checkpoints,
): void {
  for (const [i, { name: corner, config, lengths, steps, options = {} }] of corners.entries()) {
    t.test(`${name}, ${corner}`, async t => {
      const checkpoint = checkpoints(CORNER_SEED + i, config)
      t.comment(checkpoint.description)
      const random = new Random(CORNER_SEED + i)
      const reference = new Reference(checkpoint)
      const { vocab } = checkpoint
      const limit = Math.min(options.contextLength ?? Infinity, options.kvCacheTokens ?? Infinity)
      const text = (prompt: readonly number[]) =>
        reference.text(prompt, Math.min(steps, limit - prompt.length))
      const texts = lengths.map(length => text(random.ids(length, vocab)))
      const shared = [1, 2].map(() => sharingPrompt(random, texts, vocab).slice(0, limit - 1))
      const all = { texts: [...texts, texts[0]!], later: shared.map(text) }
      const directory = directoryWith(t.testdir(), 'model', checkpoint.files)
      const problems = await checkModel(directory, reference, all, options, exactCounts)
      t.equal(problems.join('\n'), '')
    })
  }
}

/** The last test: what could not be compared is bounded. */
export function testClarity(): void {
  for (const [what, counts, most] of [
    ['exact', exactCounts, 0.05],
    ['quantised', quantisedCounts, 0.5],
  ] as const) {
    t.test(`little is too close to compare: ${what}`, async t => {
      const { positions, unclearPositions, tokens, unclearTokens } = counts
      t.comment(JSON.stringify(counts))
      t.ok(unclearPositions < most * positions, `${unclearPositions} positions of ${positions}`)
      t.ok(unclearTokens < most * tokens, `${unclearTokens} tokens of ${tokens}`)
    })
  }
}
