/** Threads of grammars end with their last use, with an abort, and with the model. */
import { readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { Grammars } from '../../lib/grammar/grammars.js'
import { Turns } from '../../lib/grammar/turns.js'
import { fakeModel, tokenizer } from '../generation/fake-model.js'

const skip = process.platform !== 'linux' && 'threads are counted by /proc'
const threads = () => readdirSync('/proc/self/task').length

/** A thread begins and ends some time after its call. */
async function reach(t: Test, count: number, message: string): Promise<void> {
  for (let left = 1000; left > 0 && threads() !== count; left--) await sleep(10)
  t.equal(threads(), count, message)
}

/** Takes XGrammar many seconds. */
const slow = (i: number) => ({
  ebnf: `root ::= "${i}" (${'([a-z] | [b-y] "x"){1,900} '.repeat(20)})`,
})

/** Without a grammar. Node's own threads begin with the first use of files and workers. */
let base = 0

t.before(async () => {
  if (skip) return
  const grammars = new Grammars(tokenizer.pieces, 2048)
  await grammars.lease({ regex: 'a' })
  const running = threads()
  grammars.close()
  while (threads() === running) await sleep(10)
  base = threads()
})

t.test('a model that is closed while a grammar is being made', { skip }, async t => {
  for (let ms = 0; ms <= 5; ms++) {
    for (let i = 0; i < 4; i++) {
      const { model } = fakeModel()
      const text = model.generate('The old man', { grammar: { regex: 'ab{50}' } })
      const failed = t.rejects(text, { code: 'ERR_CLOSED' })
      if (ms > 0) await sleep(ms)
      await model.close()
      await failed
    }
  }
  await reach(t, base, 'no thread is left')
  const grammars = new Grammars(tokenizer.pieces, 2048)
  grammars.close()
  await t.rejects(grammars.lease({ regex: 'a' }), { code: 'ERR_CLOSED' })
})

t.test('two grammars are compiled at a time, and an abort ends them', { skip }, async t => {
  const grammars = new Grammars(tokenizer.pieces, 2048)
  t.teardown(() => grammars.close())
  const aborts = Array.from({ length: 5 }, () => new AbortController())
  const leases = aborts.map(({ signal }, i) => grammars.lease(slow(i), signal))
  const results = Promise.allSettled(leases)
  const other = new AbortController()
  const shared = grammars.lease(slow(0), other.signal)
  const waiting = grammars.lease({ regex: 'a' })
  await reach(t, base + 2, 'two begin')
  await sleep(50)
  t.equal(threads(), base + 2, 'the others wait')
  for (const each of aborts) each.abort()
  for (const each of await results) t.equal(each.status, 'rejected')
  using lease = await waiting
  t.ok(lease.grammar.isReady, 'the next one has its turn')
  await reach(t, base + 2, 'one is left that another call waits for')
  other.abort()
  await t.rejects(shared, { name: 'AbortError' })
  await reach(t, base + 1, 'and ends with that call')
})

t.test('a call that is aborted ends its compile', { skip }, async t => {
  const { model } = fakeModel()
  t.teardown(() => model.close())
  const controller = new AbortController()
  const text = model.generate('A', { grammar: slow(0), signal: controller.signal })
  await reach(t, base + 1, 'it is compiled')
  controller.abort()
  t.equal((await text).finishReason, 'abort')
  await reach(t, base, 'its thread has ended')
})

t.test('idle grammars beyond the few that are kept are ended at once', { skip }, async t => {
  const grammars = new Grammars(tokenizer.pieces, 2048)
  const use = async (regex: string) => {
    using _ = await grammars.lease({ regex })
  }
  await Promise.all([...'abcdefg'].map(use))
  await reach(t, base + 4, 'four are kept')
  grammars.close()
  await reach(t, base, 'until the end')
})

t.test('turns', async t => {
  const turns = new Turns(1)
  const { signal } = new AbortController()
  const order: string[] = []
  let end = () => {}
  const held = turns.run(() => new Promise<void>(resolve => (end = resolve)), signal)
  const leaving = new AbortController()
  const left = turns.run(async () => void order.push('left'), leaving.signal)
  const failing = turns.run(async () => {
    order.push('failing')
    throw new Error('failed')
  }, signal)
  const last = turns.run(async () => order.push('last'), signal)
  leaving.abort(new Error('gone'))
  await t.rejects(left, { message: 'gone' })
  await t.rejects(
    turns.run(async () => {}, leaving.signal),
    { message: 'gone' },
  )
  t.same(order, [], 'nothing runs beside the first')
  end()
  await held
  await t.rejects(failing, { message: 'failed' })
  await last
  t.same(order, ['failing', 'last'])
})
