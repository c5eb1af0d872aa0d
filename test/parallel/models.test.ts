/** A model on several ranks: the results of one process, bit by bit. */
import { join } from 'node:path'
import t from 'tap'
import { loadModel } from '../../lib/index.js'
import { root } from '../support/golden.js'
import { loadGroup } from '../support/group.js'

const BOOKS = join(root, 'models', 'books-7m')

t.test('texts of one process', async t => {
  await using alone = await loadModel(BOOKS, { device: 'cpu', threads: 1 })
  await using group = await loadGroup(BOOKS, 2)
  const prompts = ['The old man', 'She said', 'It was']
  const options = { maxNewTokens: 12, seed: 3, temperature: 0.9, logprobs: 3, routing: true }
  const plain = (results: Awaited<ReturnType<typeof alone.generate>>) =>
    (results as unknown as object[]).map(result => ({ ...result, timings: 0 }))
  t.same(
    plain((await group.model.generate(prompts, options)) as never),
    plain((await alone.generate(prompts, options)) as never),
  )
})
