/** The figures of an engine, against loads whose figures are known. */
import t from 'tap'
import { Engine } from '../../lib/engine/engine.js'
import { SizeCounter } from '../../lib/engine/stats.js'
import { FakeRunner } from './fake-runner.js'
import { request } from './requests.js'

const text = (length: number, first = 1) => Array.from({ length }, (_, i) => first + i)

/** Submits a sequence that generates so many tokens. */
function generate(engine: Engine, tokens: readonly number[], newTokens: number) {
  const asked = request({ tokens, newTokens })
  return engine.submit({ ...asked.request, generates: true })
}

t.test('before any work', async t => {
  const engine = new Engine(new FakeRunner({ pages: 10, pageSize: 4 }))
  const { uptimeMs, ...rest } = engine.stats()
  t.ok(uptimeMs >= 0)
  t.same(rest, {
    waiting: 0,
    running: 0,
    kvPageSize: 4,
    kvPagesTotal: 10,
    kvPagesUsed: 0,
    kvPagesCached: 0,
    kvPagesShared: 0,
    prefixHits: 0,
    prefixTokens: 0,
    preemptions: 0,
    promptTokens: 0,
    generatedTokens: 0,
    steps: 0,
    draftedTokens: 0,
    acceptedTokens: 0,
    lastStepTokens: 0,
    lastStepSequences: 0,
    stepTokens: { counts: [], sum: 0 },
    stepSequences: { counts: [], sum: 0 },
  })
})

t.test('one text, then the same again', async t => {
  const engine = new Engine(new FakeRunner({ pages: 10, pageSize: 4, maxStepTokens: 8 }))
  await generate(engine, text(10), 3).done
  // 8 and 2 tokens of the prompt, then 2 new ones: the third is never an input.
  t.match(engine.stats(), {
    waiting: 0,
    running: 0,
    kvPagesUsed: 0,
    kvPagesCached: 3,
    prefixHits: 0,
    promptTokens: 10,
    generatedTokens: 3,
    steps: 4,
    lastStepTokens: 1,
    lastStepSequences: 1,
    stepTokens: { counts: [2, 1, 0, 1], sum: 12 },
    stepSequences: { counts: [4], sum: 4 },
  })
  await generate(engine, text(10), 1).done
  // The last token of a prompt is computed again, for its logits.
  t.match(engine.stats(), { prefixHits: 1, prefixTokens: 9, promptTokens: 11, generatedTokens: 4 })
})

t.test('queue, running sequences and shared pages, while a step runs', async t => {
  const seen: ReturnType<Engine['stats']>[] = []
  const runner: FakeRunner = new FakeRunner({
    pages: 10,
    pageSize: 4,
    maxStepTokens: 4,
    delay: async () => {
      seen.push(engine.stats())
    },
  })
  const engine = new Engine(runner)
  await generate(engine, text(9), 1).done
  seen.length = 0
  // Both begin with the two full pages of the first text; at most two run at once.
  const three = [1, 2, 3].map(() => generate(engine, text(9), 2).done)
  await Promise.resolve()
  t.equal(engine.stats().waiting, 3)
  await Promise.all(three)
  const { waiting, running, kvPagesShared, kvPagesUsed } = seen[0]!
  t.same(
    { waiting, running, kvPagesShared, kvPagesUsed },
    {
      waiting: 1,
      running: 2,
      kvPagesShared: 2,
      kvPagesUsed: 4,
    },
  )
  t.match(engine.stats(), { waiting: 0, running: 0, kvPagesShared: 0, kvPagesUsed: 0 })
  t.equal(engine.stats().prefixHits, 3)
})

t.test('preemptions, and what is computed again', async t => {
  const runner = new FakeRunner({ pages: 6, pageSize: 4, maxStepTokens: 16, contextLength: 24 })
  const engine = new Engine(runner)
  const texts = [text(6), text(6, 20), text(6, 40)]
  await Promise.all(texts.map(tokens => generate(engine, tokens, 10).done))
  const { preemptions, promptTokens, generatedTokens, steps } = engine.stats()
  t.ok(preemptions > 0)
  t.equal(generatedTokens, 30)
  t.ok(promptTokens >= 18)
  t.equal(steps, runner.steps.length)
  t.ok(promptTokens + generatedTokens - 3 <= runner.computedTokens)
})

t.test('a text without generation, a failed step, a cancelled text', async t => {
  const runner = new FakeRunner({ pages: 10, pageSize: 4, maxStepTokens: 8 })
  const engine = new Engine(runner)
  const { request: scoring } = request({ tokens: text(5), newTokens: 1, logitsFrom: 0 })
  await engine.submit(scoring).done
  t.match(engine.stats(), { promptTokens: 5, generatedTokens: 0, steps: 1 })
  runner.failures.push(new Error('broken'))
  await t.rejects(generate(engine, text(3, 30), 1).done, { message: 'broken' })
  t.match(engine.stats(), { promptTokens: 5, generatedTokens: 0, steps: 1, running: 0 })
  const { done, cancel } = generate(engine, text(3, 40), 5)
  cancel()
  await done
  t.match(engine.stats(), { generatedTokens: 0, waiting: 0, kvPagesUsed: 0 })
  await engine.close()
  t.equal(engine.stats().steps, 1, 'a closed engine keeps its figures')
})

t.test('sizes of steps are counted in classes that double', async t => {
  const counter = new SizeCounter()
  for (const size of [1, 2, 3, 4, 5, 8, 9, 512, 513]) counter.add(size)
  t.same(counter.sizes, { counts: [1, 1, 2, 2, 1, 0, 0, 0, 0, 1, 1], sum: 1057 })
})
