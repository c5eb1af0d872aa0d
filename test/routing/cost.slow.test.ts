/** Measuring a model beside its vanilla twin. */
import t from 'tap'
import { measureCosts } from '../../lib/routing/measured-cost.js'
import { goldenCase } from '../support/golden.js'

const CPU = { device: 'cpu', threads: 2, memoryCheck: false } as const

t.test('both are measured on each text', async t => {
  const turns: string[] = []
  const measured = await measureCosts({
    source: goldenCase('gqa'),
    load: CPU,
    texts: [Int32Array.of(1, 2, 3), Int32Array.from({ length: 2000 }, (_, i) => i % 100)],
    onProgress: (done, total) => turns.push(`${done}/${total}`),
  })
  t.equal(measured.length, 2)
  t.same(
    turns,
    Array.from({ length: 10 }, (_, i) => `${i + 1}/10`),
  )
  for (const { model, twin, ceilings } of measured) {
    for (const seconds of [model.prefill, model.decode, twin.prefill, twin.decode])
      t.ok(seconds > 0 && seconds < 1)
    t.ok(ceilings!.bytesPerSecond > 1e8)
    t.ok(ceilings!.operationsPerSecond > 1e8)
    t.not(model.decode, twin.decode, 'two models')
  }
})

t.test('a model without zero-computation experts is its own twin', async t => {
  const source = goldenCase('sliding-headdim', 'mixtral')
  const [measured] = await measureCosts({ source, load: CPU, texts: [Int32Array.of(1)] })
  t.same(measured!.twin, measured!.model)
})

t.test('an abort between two turns ends it', async t => {
  const source = goldenCase('gqa')
  const texts = [Int32Array.of(1)]
  const controller = new AbortController()
  const onProgress = () => controller.abort()
  await t.rejects(
    measureCosts({ source, load: CPU, texts, signal: controller.signal, onProgress }),
    { code: 'ERR_ABORTED' },
  )
})
