/** The memory that a GPU's step takes, against the estimate. */

import { join } from 'node:path'
import t, { type Test } from 'tap'
import { request } from '../engine/requests.js'
import { root } from '../support/golden.js'
import { onGpu } from './gpu.js'

const { estimateMemory } = await import('../../lib/index.js')
const { Engine } = await import('../../lib/engine/engine.js')
const { loadParts } = await import('../../lib/load/load.js')
const { resolveLoadOptions } = await import('../../lib/options/generate.js')

const directory = join(root, 'models', 'books-7m')
const DRIVER_BYTES = 128 * 2 ** 20

/** Of a step with the logits of each token. */
async function stepMemory(t: Test, debug: string) {
  process.env.MOEPP_CUDA_DEBUG = debug
  t.teardown(() => delete process.env.MOEPP_CUDA_DEBUG)
  const options = { device: 'cuda', contextLength: 64, kvCacheTokens: 64 } as const
  const { stepBytes } = await estimateMemory(directory, options)
  const { runner } = await loadParts(directory, resolveLoadOptions(options))
  const engine = new Engine(runner)
  const tokens = Array.from({ length: 64 }, (_, i) => i + 3)
  const { request: asked, got } = request({ tokens, newTokens: 1, logitsFrom: 0 })
  await engine.submit(asked).done
  t.equal(got.rows.size, 64)
  const taken = runner.info().stepBytes
  const planned = stepBytes - DRIVER_BYTES
  await engine.close()
  return { taken, planned, said: `planned ${planned}, taken ${taken}` }
}

t.test('a step takes what the estimate counts', async t => {
  const { taken, planned, said } = await stepMemory(t, 'no-bf16')
  t.ok(Math.abs(taken - planned) < 0.005 * planned, said)
})

t.test('a step that holds activations as bf16 takes less', async t => {
  const { taken, planned, said } = await stepMemory(t, '')
  // A GPU before Ampere holds none.
  t.ok(taken > 0.9 * planned && taken < (onGpu ? 1.005 : 0.99) * planned, said)
})
