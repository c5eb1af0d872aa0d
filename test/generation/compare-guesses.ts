/** Texts with and without the option `speculate`, bit by bit. */
import type { Test } from 'tap'
import {
  type GenerateOptions,
  type GenerateResult,
  type LoadOptions,
  loadModel,
  type Model,
} from '../../lib/index.js'

/** All but times and the counts of guesses and of cached tokens. */
export function content({ usage, timings: _, ...rest }: GenerateResult) {
  const { promptTokens, generatedTokens } = usage
  return { ...rest, promptTokens, generatedTokens }
}

/** Makes a text likely to repeat what came 12 tokens before. */
const repeats = (logits: Float32Array, ids: readonly number[]) => {
  logits[ids.at(-12)!]! += 8
}

const OPTIONS: readonly GenerateOptions[] = [
  { temperature: 0.3, seed: 5, logprobs: 2 },
  { temperature: 0.7, topK: 0, seed: 6, logprobs: 1, routing: true, logits: repeats },
]

/**
 * Generates with several kinds of guesses in one batch. There is room for all texts or for less,
 * and the cache is cold or holds the prompts.
 */
export async function compareGuesses(t: Test, directory: string, options: LoadOptions) {
  const load = (kvCacheTokens: number) =>
    loadModel(directory, { ...options, contextLength: 256, kvCacheTokens })
  await using roomy = await load(1024)
  // Four pages let two texts begin, and each grows to three pages.
  await using tight = await load(256)
  const { vocabSize } = roomy.config
  const prompts = Array.from({ length: 4 }, (_, i) =>
    Array.from({ length: 50 + i }, (_, k) => (31 * i + 17 * (k % 12) + 3) % vocabSize),
  )
  const counts = { drafted: 0, accepted: 0 }
  for (const each of OPTIONS) {
    const all = { ...each, maxNewTokens: 90, ignoreEos: true }
    const expected = (await roomy.generate(prompts, all)).map(content)
    for (const model of [tight, roomy]) {
      const results = await mixed(model, prompts, all)
      t.same(results.map(content), expected)
      for (const { usage } of results) {
        counts.drafted += usage.draftedTokens ?? 0
        counts.accepted += usage.acceptedTokens ?? 0
      }
    }
  }
  t.ok(tight.stats().preemptions > 0, 'some were preempted')
  return counts
}

/** One batch of texts with and without guesses. */
async function mixed(model: Model, prompts: readonly number[][], options: GenerateOptions) {
  const kinds = [false, true, { ngram: 1, tokens: 5 }, { ngram: 2, tokens: 20 }]
  return Promise.all(
    prompts.map((prompt, i) => model.generate(prompt, { ...options, speculate: kinds[i]! })),
  ) as Promise<GenerateResult[]>
}
