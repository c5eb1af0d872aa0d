/** Pages that others than sequences hold, and work between two steps. */
import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { Engine } from '../../lib/engine/engine.js'
import { FakeRunner } from './fake-runner.js'
import { alone, range, submit } from './requests.js'

async function settled(promise: Promise<unknown>): Promise<boolean> {
  let isSettled = false
  promise.then(
    () => (isSettled = true),
    () => (isSettled = true),
  )
  for (let i = 0; i < 30; i++) await setImmediate()
  return isSettled
}

t.test('tasks run in order while no step does, and steps go on between them', async t => {
  const runner = new FakeRunner()
  const engine = new Engine(runner)
  const wish = { tokens: range(1, 9), newTokens: 20 }
  const sequence = submit(engine, wish)
  const stepsBefore: number[] = []
  for (let i = 0; i < 6; i++) {
    stepsBefore.push(
      await engine.betweenSteps(async () => {
        runner.readPage(0, 0) // throws while a step runs
        const before = runner.steps.length
        await setImmediate()
        t.equal(runner.steps.length, before)
        return before
      }),
    )
  }
  t.ok(stepsBefore.every((steps, i) => i === 0 || steps > stepsBefore[i - 1]!))
  const order: number[] = []
  await Promise.all(range(0, 5).map(i => engine.betweenSteps(async () => order.push(i))))
  t.same(order, range(0, 5))
  await sequence.done
  t.same(sequence.got, (await alone(wish)).got)
  t.equal(await engine.betweenSteps(async () => 7), 7, 'without a sequence')
  for (const task of [
    async () => {
      throw new Error('mine')
    },
    () => {
      throw new Error('mine')
    },
  ])
    await t.rejects(engine.betweenSteps(task), /mine/)
  await submit(engine, wish).done
  await engine.close()
  await t.rejects(
    engine.betweenSteps(async () => 0),
    { code: 'ERR_CLOSED' },
  )
})

t.test('sequences wait for pages that others hold', async t => {
  const engine = new Engine(new FakeRunner({ pages: 6 }))
  const held = engine.reserve(range(1, 16))!
  t.equal(held.pages.length, 4)
  t.equal(engine.reserve(range(1, 16)), undefined)
  const wishes = [
    { tokens: range(1, 7), newTokens: 12 },
    { tokens: range(20, 40), newTokens: 2 },
  ]
  const sequences = wishes.map(wish => submit(engine, wish))
  // The first begins in two pages, and gives them up for want of a third.
  for (const { done } of sequences) t.notOk(await settled(done))
  t.match(engine.stats(), { kvPagesUsed: 4, waiting: 2, running: 0, preemptions: 1 })
  t.equal(await engine.betweenSteps(async () => 5), 5, 'tasks run')
  const third = submit(engine, { tokens: [1], newTokens: 1 })
  t.notOk(await settled(third.done))
  third.cancel()
  await third.done
  engine.release(held.pages)
  for (const [i, { done, got }] of sequences.entries()) {
    await done
    t.same(got.tokenIds, (await alone(wishes[i]!)).got.tokenIds)
  }
  t.match(engine.stats(), { kvPagesUsed: 0 })

  const again = engine.reserve(range(1, 24))!
  const waiting = submit(engine, wishes[1]!)
  t.notOk(await settled(waiting.done))
  await Promise.all([engine.close(), t.rejects(waiting.done, { code: 'ERR_CLOSED' })])
  engine.release(again.pages)
  t.match(engine.stats(), { kvPagesUsed: 0, waiting: 0 })
})

t.test('reserved pages are begun with only once they are adopted', async t => {
  const tokens = range(1, 11)
  const source = new FakeRunner()
  const first = new Engine(source)
  await submit(first, { tokens, newTokens: 1 }).done
  const runner = new FakeRunner()
  const engine = new Engine(runner)
  const begins = async () => {
    const { done, got } = submit(engine, { tokens: [...tokens, 3], newTokens: 2 })
    const { cachedTokens } = await done
    t.same(got, (await alone({ tokens: [...tokens, 3], newTokens: 2 })).got)
    return cachedTokens
  }
  const fill = () => {
    const reserved = engine.reserve(tokens)!
    t.equal(reserved.shared, 0)
    // The source has used its first pages, in order.
    for (const [i, { index }] of reserved.pages.entries())
      runner.writePage(0, index, source.readPage(0, pagesOfSource[i]!))
    return reserved
  }
  const pagesOfSource = [...source.steps[0]!.pageTable]
  const dropped = fill()
  engine.release(dropped.pages)
  t.equal(engine.stats().kvPagesCached, 0)
  const adopted = fill()
  engine.adopt(adopted)
  t.match(engine.stats(), { kvPagesUsed: 3, kvPagesCached: 0 })
  engine.release(adopted.pages)
  t.match(engine.stats(), { kvPagesUsed: 0, kvPagesCached: 3 })
  t.equal(await begins(), 10)
  const more = engine.reserve([...tokens, 3, 4, 5])!
  t.equal(more.shared, 3 - 1)
  engine.release(more.pages)
})

t.test('a sequence keeps its pages until they are given back', async t => {
  const engine = new Engine(new FakeRunner({ pages: 8 }))
  const keep = (tokens: readonly number[]) =>
    engine.submit({
      tokens,
      logitsFrom: tokens.length - 1,
      keepsPages: true,
      capture: [],
      consumer: { next: () => undefined },
    })
  const { pages } = await keep(range(1, 11)).done
  t.equal(pages!.length, 3)
  t.match(engine.stats(), { kvPagesUsed: 3, running: 0 })
  // Others go on from these pages and evict none of them.
  const longer = { tokens: [...range(1, 11), 40], newTokens: 9 }
  const others = { tokens: range(20, 30), newTokens: 4 }
  for (const wish of [longer, others, longer]) {
    const { done, got } = submit(engine, wish)
    await done
    t.same(got.tokenIds, (await alone(wish)).got.tokenIds)
  }
  t.same(
    pages!.map(page => page.tokens),
    [range(1, 5), range(5, 9), range(9, 11)],
  )
  engine.release(pages!)
  t.match(engine.stats(), { kvPagesUsed: 0, kvPagesShared: 0 })
  const cancelled = keep(range(1, 11))
  cancelled.cancel()
  t.equal((await cancelled.done).pages, undefined)
  t.match(engine.stats(), { kvPagesUsed: 0 })
})
