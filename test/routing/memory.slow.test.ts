/** The memory of a survey does not grow with its text. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { Model } from '../../lib/generation/model.js'
import { loadParts } from '../../lib/load/load.js'
import { resolveLoadOptions } from '../../lib/options/generate.js'
import { survey } from '../../lib/routing/survey.js'
import { BOOKS } from '../checkpoint/files.js'

const TEXT = readFileSync(join(BOOKS, 'heldout.txt'), 'utf8').slice(0, 64_000)

t.test('of a text of 20 and of 200 thousand tokens', async t => {
  const parts = await loadParts(BOOKS, resolveLoadOptions({ device: 'cpu', threads: 2 }))
  const model = new Model(parts)
  t.teardown(() => model.close())
  const used: number[] = []
  let rows = 0
  const text = async function* (times: number) {
    for (let i = 0; i < times; i++) yield TEXT
  }
  const surveyed = (times: number) =>
    survey({
      model,
      spec: parts.spec,
      cacheDtype: parts.runner.cache.dtype,
      names: { model: 'books-7m', file: 'heldout', dtype: 'bfloat16' },
      text: text(times),
      windowTokens: 512,
      addSpecialTokens: true,
      signal: new AbortController().signal,
      onRows: ({ tokens }) => {
        rows += tokens.length
        const { heapUsed, arrayBuffers } = process.memoryUsage()
        used.push(heapUsed + arrayBuffers)
      },
    })
  const short = await surveyed(1)
  const most = Math.max(...used)
  used.length = 0
  const long = await surveyed(10)
  t.equal(long.tokens, rows - short.tokens)
  t.ok(long.tokens > 9.9 * short.tokens)
  // Garbage that waits to be collected, and the rows of two batches: some megabytes.
  t.ok(Math.max(...used) < most + 48e6, `${Math.max(...used)} bytes, ${most} before`)
})
