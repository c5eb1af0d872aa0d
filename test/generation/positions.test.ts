/** The warning past max_position_embeddings. */
import t from 'tap'
import type { ModelConfig } from '../../lib/families/family.js'
import { Model } from '../../lib/generation/model.js'
import { FakeRunner } from '../engine/fake-runner.js'
import { config } from './fake-model.js'

const model = (more: Partial<ModelConfig>) =>
  new Model({
    runner: new FakeRunner({ vocabSize: config.vocabSize, contextLength: 200 }),
    config: { ...config, maxPositionEmbeddings: 20, ...more },
    generation: {},
  })
const ids = (length: number) => Array.from({ length }, (_, i) => i + 10)
const endless = { ignoreEos: true } as const

/** The codes of warnings that come while `body` runs. */
async function warnings(body: () => Promise<unknown>): Promise<string[]> {
  const codes: string[] = []
  const hear = (warning: Error & { code?: string }) => void codes.push(`${warning.code}`)
  process.on('warning', hear)
  await body()
  await new Promise(setImmediate)
  process.off('warning', hear)
  return codes
}

const CODE = 'MOEPP_BEYOND_POSITIONS'

t.test('the token that is computed past the last position warns, once for a model', async t => {
  const short = model({})
  t.same(await warnings(() => short.generate(ids(15), { maxNewTokens: 6, ...endless })), [])
  t.same(await warnings(() => short.generate(ids(15), { maxNewTokens: 7, ...endless })), [CODE])
  t.same(await warnings(() => short.generate(ids(30), { maxNewTokens: 7, ...endless })), [])
  t.same(await warnings(() => model({}).generate(ids(21), { maxNewTokens: 1 })), [CODE])
})

t.test('forward and score', async t => {
  t.same(await warnings(() => model({}).forward(ids(20))), [])
  t.same(await warnings(() => model({}).forward([ids(21), ids(30)])), [CODE])
  t.same(await warnings(() => model({}).score(ids(20), [1])), [])
  t.same(await warnings(() => model({}).score(ids(20), [1, 2])), [CODE])
})

t.test('RoPE scaling is made for longer texts', async t => {
  const scaled = model({ ropeScaling: { type: 'linear', factor: 2 } })
  t.same(await warnings(() => scaled.forward(ids(30))), [])
})
