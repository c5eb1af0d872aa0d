/** The memory of a step as TypeScript plans it, against what native code has taken. */
import { join } from 'node:path'
import t from 'tap'
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { Engine } from '../../lib/engine/engine.js'
import { readModel } from '../../lib/families/registry.js'
import { loadParts } from '../../lib/load/load.js'
import { planLoad } from '../../lib/load/plan.js'
import { resolveLoadOptions } from '../../lib/options/generate.js'
import { stepBytes } from '../../lib/program/step-bytes.js'
import { request } from '../engine/requests.js'
import { goldenCase, root } from '../support/golden.js'

const directories = [
  join(root, 'models', 'books-7m'),
  goldenCase('tied-bin'),
  goldenCase('ngram-eos', 'longcat_flash_ngram'),
]

t.test('the plan is the one that native code makes', async t => {
  for (const directory of directories) {
    const options = resolveLoadOptions({ device: 'cpu', contextLength: 600 })
    const description = await readModel(directory)
    const { config } = description
    const { spec } = planLoad(description, await openCheckpoint(directory), options)
    for (const T of [1, 37, 512]) {
      const { runner } = await loadParts(directory, options)
      const engine = new Engine(runner)
      const tokens = Array.from({ length: T }, (_, i) => i % config.vocabSize)
      // The whole row, as a result, lies in the caller's memory: the largest alone are asked for.
      const { request: asked } = request({ tokens, newTokens: 1, takesTop: () => true })
      await engine.submit(asked).done
      const planned = stepBytes(spec, { T, R: 1, B: 1, M: Math.ceil(T / 64) })
      const taken = runner.info().stepBytes
      // An op's outputs may be placed in another order.
      const most = Math.max(256, taken / 100)
      t.ok(Math.abs(planned - taken) <= most, `${T} tokens: planned ${planned}, taken ${taken}`)
      await engine.close()
    }
  }
})
