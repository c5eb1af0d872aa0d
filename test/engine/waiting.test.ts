/** Sequences whose consumers are not ready hold up no others, and get the same logits later. */
import { setTimeout } from 'node:timers/promises'
import t from 'tap'
import { Engine } from '../../lib/engine/engine.js'
import { Random } from '../reference/random-checkpoint.js'
import { FakeRunner } from './fake-runner.js'
import { alone, submit, type Wish } from './requests.js'

t.test('others go on while one waits', async t => {
  let release = () => {}
  const gate = new Promise<void>(resolve => {
    release = resolve
  })
  const slow: Wish = {
    tokens: [1, 2, 3],
    newTokens: 6,
    waits: count => (count === 2 ? gate : undefined),
  }
  const engine = new Engine(new FakeRunner({ pages: 40 }))
  const first = submit(engine, slow)
  for (let i = 0; i < 3; i++) {
    const other = submit(engine, { tokens: [4, 5, i], newTokens: 30 })
    await other.done
    t.equal(other.got.tokenIds.length, 30)
  }
  t.equal(first.got.tokenIds.length, 2)
  release()
  await first.done
  const plain = await alone({ tokens: [1, 2, 3], newTokens: 6 })
  t.same(first.got, plain.got)
})

t.test('one that fails, is cancelled or is closed while it waits', async t => {
  const never = new Promise<void>(() => {})
  const waiting = (waits: Wish['waits']) => ({ tokens: [1, 2], newTokens: 4, waits }) as Wish
  const engine = new Engine(new FakeRunner({ pages: 40 }))
  const failing = setTimeout(40).then(() => Promise.reject(new Error('no grammar')))
  failing.catch(() => {})
  await t.rejects(
    submit(
      engine,
      waiting(() => failing),
    ).done,
    /no grammar/,
  )
  const cancelled = submit(
    engine,
    waiting(() => never),
  )
  await setTimeout(40)
  cancelled.cancel()
  t.equal((await cancelled.done).cancelled, true)
  t.equal(engine.stats().running, 0)
  const closed = submit(
    engine,
    waiting(() => never),
  )
  await setTimeout(40)
  const rejected = t.rejects(closed.done, { code: 'ERR_CLOSED' })
  await engine.close()
  await rejected
})

t.test('random waits, on caches that are too small for all', async t => {
  let preemptions = 0
  for (let seed = 1; seed <= 12; seed++) {
    const random = new Random(seed)
    const wishes = Array.from(
      { length: 6 },
      (): Wish => ({
        tokens: random.ids(random.integer(1, 12), 20),
        newTokens: random.integer(2, 12),
      }),
    )
    const engine = new Engine(new FakeRunner({ pages: 9, maxStepTokens: 16 }))
    const waits = () => (random.chance(0.2) ? setTimeout(random.integer(0, 40)) : undefined)
    const together = wishes.map(wish => submit(engine, { ...wish, waits }))
    await Promise.all(together.map(({ done }) => done))
    preemptions += engine.stats().preemptions
    for (const [i, wish] of wishes.entries()) {
      const { got } = await alone(wish)
      t.same(together[i]!.got, got, `seed ${seed}, text ${i}`)
    }
  }
  t.ok(preemptions > 0)
})
