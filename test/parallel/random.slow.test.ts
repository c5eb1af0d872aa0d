/** Many calls at once on several ranks, of all kinds and in any order: the texts of one process. */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { type GenerateOptions, loadModel, type Model } from '../../lib/index.js'
import { goldenCase, root } from '../support/golden.js'
import { loadGroup } from '../support/group.js'
import { random } from '../support/random.js'

const BOOKS = join(root, 'models', 'books-7m')

interface Call {
  readonly prompt: readonly number[]
  readonly options: GenerateOptions
  readonly afterMs: number
  /** Aborted then. */
  readonly abortMs: number | undefined
}

function calls(seed: number, count: number, vocabulary: number): Call[] {
  const next = random(seed)
  const upTo = (n: number) => Math.floor(n * next())
  const shared = Array.from({ length: 200 }, () => 3 + upTo(vocabulary - 3))
  return Array.from({ length: count }, () => {
    const own = Array.from({ length: 1 + upTo(90) }, () => 3 + upTo(vocabulary - 3))
    return {
      prompt: next() < 0.5 ? own : [...shared.slice(0, 64 + upTo(136)), ...own],
      options: {
        maxNewTokens: upTo(40),
        temperature: next() < 0.5 ? 0 : 1,
        seed: upTo(1000),
        ignoreEos: next() < 0.5,
        ...(next() < 0.3 && { logprobs: upTo(3) }),
        ...(next() < 0.3 && { promptLogprobs: 1 }),
        ...(next() < 0.3 && { routing: true }),
        ...(next() < 0.3 && { speculate: true }),
        ...(next() < 0.2 && { numReturnSequences: 1 + upTo(3) }),
        ...(next() < 0.1 && { logits: (row: Float32Array) => row.fill(-Infinity, 3, 9) }),
      },
      afterMs: upTo(300),
      abortMs: next() < 0.2 ? upTo(200) : undefined,
    }
  })
}

/** All that neither time nor the KV cache decides; undefined if it was aborted. */
async function textOf(model: Model, { prompt, options, afterMs, abortMs }: Call) {
  await sleep(afterMs)
  const signal = abortMs === undefined ? undefined : AbortSignal.timeout(abortMs)
  const results = await model.generate(prompt, { ...options, ...(signal && { signal }) })
  return [results].flat().map(({ timings: _, usage, ...result }) => {
    if (result.finishReason === 'abort') return undefined
    return { ...result, generated: usage.generatedTokens }
  })
}

for (const [size, directory, dtype] of [
  [2, BOOKS, 'float32'],
  [3, BOOKS, 'int8'],
  [4, goldenCase('zero-copy-no-norm', 'qwen3_moe_plus_plus'), 'float32'],
] as const) {
  t.test(`${size} ranks`, async t => {
    // Few pages, so that texts wait, and give theirs up.
    const options = { dtype, contextLength: 400, kvCacheTokens: 512 } as const
    await using alone = await loadModel(directory, { device: 'cpu', threads: 1, ...options })
    await using group = await loadGroup(directory, size, options)
    const all = calls(size, 60, alone.config.vocabSize)
    const expected = await Promise.all(
      all.map(call => textOf(alone, { ...call, abortMs: undefined })),
    )
    const got = await Promise.all(all.map(call => textOf(group.model, call)))
    for (const [i, texts] of got.entries())
      for (const [n, text] of texts.entries()) if (text) t.same(text, expected[i]![n], `call ${i}`)
    const { running, waiting, kvPagesUsed } = group.model.stats()
    t.same({ running, waiting, kvPagesUsed }, { running: 0, waiting: 0, kvPagesUsed: 0 })
  })
}
