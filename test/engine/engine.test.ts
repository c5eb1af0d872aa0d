import { setImmediate, setTimeout } from 'node:timers/promises'
import t from 'tap'
import { Engine } from '../../lib/engine/engine.js'
import { MoeppError } from '../../lib/errors.js'
import { FakeRunner } from './fake-runner.js'
import { alone, range, submit, type Wish } from './requests.js'

t.test('one sequence: the prompt in chunks, then a token a step', async t => {
  const runner = new FakeRunner({ maxStepTokens: 4 })
  const wish = { tokens: range(1, 11), newTokens: 5 }
  const { done, got } = submit(new Engine(runner), wish)
  const report = await done
  t.match(report, { cachedTokens: 0, cancelled: false })
  t.same(
    runner.steps.map(step => step.tokens.length),
    [4, 4, 2, 1, 1, 1, 1],
  )
  t.same(
    runner.steps.map(step => step.logitRows.length),
    [0, 0, 1, 1, 1, 1, 1],
  )
  t.same(got, (await alone(wish)).got)
})

t.test(
  'all logits and captured buffers, in chunks and after a preemption, come once and in order',
  async t => {
    const capture = ['layers.1.router_logits', 'layers.0.expert_indices']
    const wish = { tokens: range(1, 12), newTokens: 12, logitsFrom: 0, capture }
    const expected = (await alone(wish)).got
    t.equal(expected.rows.size, 22)
    t.equal(expected.captured[capture[1]!]!.length, 22 * 2)
    const runner = new FakeRunner({ maxStepTokens: 6, pages: 8 })
    const engine = new Engine(runner)
    const older = { tokens: range(20, 28), newTokens: 16 }
    const [first, second] = [submit(engine, older), submit(engine, wish)]
    await Promise.all([first.done, second.done])
    t.ok(runner.computedTokens > 22 + 23, 'the younger one was preempted')
    t.same(second.got, expected)
    t.same(first.got, (await alone(older)).got)
  },
)

t.test('buffers of all tokens but those that were cached, after a preemption too', async t => {
  const capture = ['layers.0.expert_indices']
  const wish = { tokens: range(1, 12), newTokens: 12, capture }
  const whole = (await alone(wish)).got.captured[capture[0]!]!
  const runner = new FakeRunner({ maxStepTokens: 6, pages: 8 })
  const engine = new Engine(runner)
  await submit(engine, { tokens: range(1, 8), newTokens: 1 }).done
  const before = runner.computedTokens
  const first = submit(engine, { tokens: range(20, 28), newTokens: 16 })
  const second = submit(engine, { ...wish, capturesCached: false })
  const [, { cachedTokens }] = await Promise.all([first.done, second.done])
  t.ok(cachedTokens > 0, `${cachedTokens} cached tokens`)
  t.ok(runner.computedTokens - before > 23 + 22 - cachedTokens, 'one was preempted')
  t.same(second.got.captured[capture[0]!], whole.slice(2 * cachedTokens))
})

t.test(
  'the largest logits where they suffice; else the token is computed again for its whole row',
  async t => {
    const capture = ['layers.1.router_logits']
    const wish = { tokens: range(1, 12), newTokens: 9, capture }
    const expected = (await alone(wish)).got
    for (const until of [10, 11, 14, 1000]) {
      const runner = new FakeRunner({ maxStepTokens: 6 })
      const engine = new Engine(runner)
      const taker = submit(engine, { ...wish, takesTop: position => position < until })
      const other = submit(engine, { tokens: range(20, 28), newTokens: 3 })
      await Promise.all([taker.done, other.done])
      t.same(taker.got.tokenIds, expected.tokenIds)
      t.same(taker.got.captured, expected.captured)
      t.same(other.got, (await alone({ tokens: range(20, 28), newTokens: 3 })).got)
      for (const [position, row] of taker.got.rows) {
        t.equal(row.startsWith('largest'), position < until, `position ${position}`)
        if (position >= until) t.equal(row, expected.rows.get(position))
      }
      const again = until > 18 ? 0 : 1
      t.equal(
        runner.computedTokens,
        11 + 8 + 8 + 2 + again,
        'each token once, and one of them twice',
      )
      t.same(runner.steps.at(-1)!.wanted, { whole: until <= 18, top: until > 18, logSumExp: false })
    }
  },
)

t.test('a later call shares the pages of an earlier one, to the token', async t => {
  const runner = new FakeRunner()
  const engine = new Engine(runner)
  const first = submit(engine, { tokens: range(1, 12), newTokens: 4 })
  await first.done
  const conversation = [...range(1, 12), ...first.got.tokenIds.slice(0, 3)]
  const computed = runner.computedTokens
  // 14 tokens are computed: three pages, and two tokens of a fourth.
  const wish = { tokens: [...conversation, 40, 41], newTokens: 2 }
  const second = submit(engine, wish)
  t.equal((await second.done).cachedTokens, 14)
  t.equal(runner.computedTokens - computed, 3)
  t.equal(runner.copies, 1)
  t.same(second.got, (await alone(wish)).got)

  const same = submit(engine, { ...wish, tokens: conversation })
  t.equal((await same.done).cachedTokens, 13, 'the last token is computed, its logits are needed')
  const other = submit(engine, { ...wish, tokens: [40, ...conversation] })
  t.equal((await other.done).cachedTokens, 0)
})

t.test('a cached page is not written to by those who copy it', async t => {
  const engine = new Engine(new FakeRunner())
  const beginning = range(1, 7)
  for (const last of [20, 21, 22, 20]) {
    const wish = { tokens: [...beginning, last], newTokens: 6 }
    const { done, got } = submit(engine, wish)
    await done
    t.same(got, (await alone(wish)).got)
  }
})

t.test('pages are not shared where the variants of keys differ', async t => {
  const options = { sharedVariant: 8 }
  const engine = new Engine(new FakeRunner(options))
  const short = { tokens: range(1, 9), newTokens: 8 }
  const long = { tokens: range(1, 13), newTokens: 1 }
  const first = submit(engine, short)
  await first.done
  const second = submit(engine, long)
  t.equal((await second.done).cachedTokens, 0)
  const third = submit(engine, short)
  t.equal((await third.done).cachedTokens, 7)
  t.same(first.got, (await alone(short, options)).got)
  t.same(second.got, (await alone(long, options)).got)
  t.same(third.got, first.got)
})

t.test('identical prompts of one batch compute their tokens once', async t => {
  const runner = new FakeRunner()
  const engine = new Engine(runner)
  const wish = { tokens: range(1, 11), newTokens: 3 }
  const all = range(0, 5).map(() => submit(engine, wish))
  const reports = await Promise.all(all.map(({ done }) => done))
  t.same(
    reports.map(report => report.cachedTokens),
    [0, 9, 9, 9, 9],
  )
  t.equal(runner.computedTokens, 10 + 4 + 5 * 2)
  const expected = (await alone(wish)).got
  for (const { got } of all) t.same(got, expected)
})

t.test('a common beginning is computed once, a common first token holds nobody up', async t => {
  const runner = new FakeRunner({ maxStepTokens: 8, contextLength: 100 })
  const engine = new Engine(runner)
  const system = range(1, 25)
  const wishes = range(0, 4).map(i => ({ tokens: [...system, 30 + i, 40 + i], newTokens: 2 }))
  const all = wishes.map(wish => submit(engine, wish))
  const stranger = submit(engine, { tokens: [1, 33, 34], newTokens: 1 })
  await stranger.done
  t.equal(runner.steps.length, 1, 'in the first step')
  await Promise.all(all.map(({ done }) => done))
  t.equal(runner.computedTokens, 24 + 4 * 2 + 4 + 3)
  for (const [i, { got }] of all.entries()) t.same(got, (await alone(wishes[i]!)).got)
})

t.test('a long prompt does not hold up those that generate, nor short prompts', async t => {
  const runner = new FakeRunner({ contextLength: 400, pages: 200 })
  const engine = new Engine(runner)
  const generating = submit(engine, { tokens: [3], newTokens: 30 })
  const long = submit(engine, { tokens: range(0, 300).map(i => i % 50), newTokens: 1 })
  await setImmediate()
  const short = submit(engine, { tokens: [5, 6, 7], newTokens: 2 })
  await short.done
  t.ok(runner.steps.length <= 5, `the short one took ${runner.steps.length} steps`)
  await generating.done
  t.equal(runner.steps.length, 30, 'a token in every step')
  await long.done
  t.ok(runner.steps.every(step => step.tokens.length <= runner.maxStepTokens))
})

t.test('the room that the oldest prompt leaves goes to the shortest of the others', async t => {
  const runner = new FakeRunner({ contextLength: 400, pages: 200 })
  const engine = new Engine(runner)
  const prompt = (first: number, length: number) => range(0, length).map(i => (first + 7 * i) % 50)
  const submitted = [prompt(1, 200), prompt(2, 7), prompt(3, 5)].map(tokens =>
    submit(engine, { tokens, newTokens: 1 }),
  )
  await submitted[2]!.done
  t.equal(runner.steps.length, 1, 'all of its five tokens, and three of the seven')
  await submitted[1]!.done
  t.equal(runner.steps.length, 2)
  await submitted[0]!.done
})

t.test('unused pages are evicted, longest unused first', async t => {
  const engine = new Engine(new FakeRunner({ pages: 6, contextLength: 24 }))
  const run = async (first: number, length: number) =>
    (await submit(engine, { tokens: range(first, first + length), newTokens: 1 }).done).cachedTokens
  await run(1, 9)
  await run(21, 9)
  t.equal(await run(1, 9), 8, 'both fit')
  t.equal(await run(11, 4), 0, 'takes the last page of the one that starts with 21')
  t.equal(await run(1, 9), 8, 'takes the page before that')
  t.equal(await run(21, 9), 4, 'the first one is left')
  t.equal(await run(26, 24), 0, 'takes all pages')
  t.equal(await run(1, 9), 0)
})

t.test('a cancelled sequence ends at once; others go on', async t => {
  const runner = new FakeRunner()
  const engine = new Engine(runner)
  const wish = { tokens: range(1, 6), newTokens: 20 }
  const stays = submit(engine, { tokens: range(11, 16), newTokens: 20 })
  const leaves: Wish = { ...wish, onToken: count => count === 3 && cancelled.cancel() }
  const cancelled = submit(engine, leaves)
  t.match(await cancelled.done, { cancelled: true })
  t.equal(cancelled.got.tokenIds.length, 3)
  cancelled.cancel()
  await stays.done
  t.same(stays.got, (await alone({ tokens: range(11, 16), newTokens: 20 })).got)
  const waiting = submit(engine, wish)
  waiting.cancel()
  t.match(await waiting.done, { cancelled: true, startedAt: undefined })
})

t.test('a step that nobody waits for any more is cancelled, and spoils nothing', async t => {
  const states: (bigint | undefined)[] = []
  class Watched extends FakeRunner {
    override async run(...args: Parameters<FakeRunner['run']>) {
      try {
        return await super.run(...args)
      } finally {
        states.push(args[1]?.[1])
      }
    }
  }
  const engine = new Engine(new Watched({ delay: () => setTimeout(5) }))
  const wish = { tokens: range(1, 8), newTokens: 4 }
  const [one, two] = [submit(engine, wish), submit(engine, wish)]
  await setTimeout(1)
  one.cancel()
  two.cancel()
  const after = submit(engine, wish)
  await after.done
  t.equal(states[0], 1n)
  t.same(states.slice(1), [0n, 0n, 0n, 0n])
  t.same(after.got, (await alone(wish)).got)
})

t.test('an error of a step or a consumer rejects those concerned; the engine goes on', async t => {
  const runner = new FakeRunner()
  const engine = new Engine(runner)
  const wish = { tokens: range(1, 8), newTokens: 4 }
  runner.failures.push(new MoeppError('ERR_DEVICE', 'broken'))
  await t.rejects(submit(engine, wish).done, { code: 'ERR_DEVICE' })
  const fails = submit(engine, {
    ...wish,
    onToken() {
      throw new RangeError('no token left')
    },
  })
  const stays = submit(engine, wish)
  await t.rejects(fails.done, new RangeError('no token left'))
  await stays.done
  t.same(stays.got, (await alone(wish)).got)
})

t.test('a step copies a page before it writes to it', async t => {
  const runner = new FakeRunner({ pageSize: 8, pages: 8 })
  const engine = new Engine(runner)
  await submit(engine, { tokens: range(1, 7), newTokens: 1 }).done
  const wish = { tokens: [1, 2, 3, 40, 41], newTokens: 3 }
  const second = submit(engine, wish)
  t.match(await second.done, { cachedTokens: 3 })
  t.same(second.got, (await alone(wish)).got)
  const copying = runner.steps.filter(step => step.copies.length > 0)
  t.equal(copying.length, 1)
  const { copies, positions, pageTable } = copying[0]!
  t.equal(copies.length, 2)
  t.not(copies[0], copies[1])
  t.same([...positions], [3, 4], 'what the copy does not have')
  t.equal(pageTable[0], copies[1], 'is written to it')
})

t.test('copies of a step that fails or is cancelled are dropped with their sequences', async t => {
  let underWay = () => {}
  const runner = new FakeRunner({
    pageSize: 8,
    pages: 8,
    maxStepTokens: 8,
    delay: async () => {
      underWay()
      await setImmediate()
    },
  })
  const engine = new Engine(runner)
  await submit(engine, { tokens: range(1, 7), newTokens: 1 }).done
  const wish = { tokens: [1, 2, 3, 40, 41], newTokens: 3 }
  const expected = (await alone(wish)).got
  // More often than there are pages: a lost one would show.
  for (const i of range(0, 20)) {
    if (i % 2 === 0) {
      runner.failures.push(new MoeppError('ERR_DEVICE', 'no step'))
      await t.rejects(submit(engine, wish).done, { code: 'ERR_DEVICE' })
      continue
    }
    const { done, cancel } = submit(engine, wish)
    underWay = cancel
    t.match(await done, { cancelled: true })
    underWay = () => {}
  }
  t.equal(
    runner.steps.filter(step => step.copies.length === 2).length,
    20,
    'each would have copied',
  )
  t.equal(runner.copies, 0)
  const again = submit(engine, wish)
  t.match(await again.done, { cachedTokens: 3 })
  t.same(again.got, expected)
})

t.test('close rejects what is pending, after which the runner is closed', async t => {
  const runner = new FakeRunner({ delay: () => setTimeout(5) })
  const engine = new Engine(runner)
  const all = [1, 2, 3].map(first => submit(engine, { tokens: [first], newTokens: 20 }))
  const ends = all.map(({ done }) => t.rejects(done, { code: 'ERR_CLOSED' }))
  await setTimeout(8)
  const closing = engine.close()
  t.equal(engine.close(), closing)
  t.throws(() => submit(engine, { tokens: [1], newTokens: 1 }), { code: 'ERR_CLOSED' })
  await Promise.all([...ends, closing])
  t.ok(runner.closed)
  await new Engine(new FakeRunner()).close()
})

t.test('the event loop goes on while a large batch is sampled', async t => {
  // Each step resolves at once, and each row takes half a millisecond.
  const runner = new FakeRunner({
    delay: async () => {},
    maxStepTokens: 128,
    pages: 1000,
    contextLength: 200,
  })
  const engine = new Engine(runner)
  let [rows, most, isOver] = [0, 0, false]
  const turns = (async () => {
    for (; !isOver; rows = 0) await setImmediate()
  })()
  const busy = () => {
    const until = performance.now() + 0.5
    while (performance.now() < until);
    most = Math.max(most, ++rows)
  }
  const all = range(0, 64).map(i =>
    submit(engine, { tokens: [i % 50], newTokens: 10, onToken: busy }),
  )
  await Promise.all(all.map(({ done }) => done))
  isOver = true
  await turns
  // A slice of 4 ms is 8 rows, and one may end a step before another begins the next.
  t.ok(most >= 1 && most <= 24, `${most} of 64 rows without a pause`)
})
