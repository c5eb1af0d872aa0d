/** Admission: texts start, wait or are refused. */
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { Admission, type Load } from '../../lib/server/admission.js'
import { RequestError } from '../../lib/server/errors.js'

const LIMITS = { maxRunning: 2, maxQueued: 3, maxQueuedTokens: 100 }

const one = (tokens = 10): Load => ({ texts: 1, tokens })

/** The names of those whose turn has come. */
async function turns(waiting: Readonly<Record<string, Promise<void>>>): Promise<string[]> {
  const come: string[] = []
  for (const [name, turn] of Object.entries(waiting)) turn.then(() => come.push(name))
  await sleep(0)
  return come.sort()
}

function refusal(admit: () => unknown): RequestError | undefined {
  try {
    admit()
  } catch (error) {
    if (error instanceof RequestError) return error
    throw error
  }
  return undefined
}

t.test('texts run up to the limit, and start in the order of their coming', async t => {
  const admission = new Admission(LIMITS)
  const all = Array.from({ length: 5 }, () => admission.admit(one()))
  const waiting = Object.fromEntries(all.map((admitted, i) => [`${i}`, admitted.turn(0)]))
  t.strictSame(await turns(waiting), ['0', '1'])
  t.match(admission, { running: 2, queued: 3, queuedTokens: 30 })
  all[1]!.leave(0)
  t.strictSame(await turns(waiting), ['0', '1', '2'])
  all[3]!.leave(0)
  all[0]!.leave(0)
  t.strictSame(await turns(waiting), ['0', '1', '2', '4'], 'one that left the queue never starts')
  for (const admitted of all) admitted[Symbol.dispose]()
  t.match(admission, { running: 0, queued: 0, queuedTokens: 0 })
})

t.test('leaving twice gives up one place', async t => {
  const admission = new Admission(LIMITS)
  const first = admission.admit(one())
  const second = admission.admit(one())
  first.leave(0)
  first.leave(0)
  first[Symbol.dispose]()
  t.equal(admission.running, 1)
  second[Symbol.dispose]()
  t.equal(admission.running, 0)
})

t.test('beyond the queue there is 429, with a time to come back', async t => {
  const admission = new Admission(LIMITS)
  for (let i = 0; i < 5; i++) {
    t.equal(
      refusal(() => admission.check()),
      undefined,
    )
    admission.admit(one())
  }
  t.ok(admission.isFull)
  for (const refused of [() => admission.check(), () => admission.admit(one())]) {
    const error = refusal(refused)
    t.match(error, { status: 429, body: { error: { code: 'queue_full' } } })
    const seconds = error?.details.retryAfterSeconds ?? 0
    t.ok(Number.isInteger(seconds) && seconds >= 1 && seconds <= 60)
  }
})

t.test('the tokens of the queue are bounded, but for the first that waits', async t => {
  const admission = new Admission(LIMITS)
  admission.admit({ texts: 2, tokens: 1_000_000 })
  t.equal(admission.queuedTokens, 0, 'those that run do not count')
  admission.admit(one(1000))
  t.equal(refusal(() => admission.admit(one(1)))?.status, 429)
})

t.test('a request of several texts is admitted as a whole, or not at all', async t => {
  const admission = new Admission(LIMITS)
  const many = admission.admit({ texts: 4, tokens: 40 })
  t.match(admission, { running: 2, queued: 2, queuedTokens: 20 })
  t.equal(refusal(() => admission.admit({ texts: 2, tokens: 2 }))?.status, 429)
  t.match(admission, { running: 2, queued: 2 }, 'nothing of it has stayed')
  many[Symbol.dispose]()
  t.match(admission, { running: 0, queued: 0, queuedTokens: 0 })
  t.equal(
    refusal(() => admission.admit({ texts: 6, tokens: 6 }))?.status,
    400,
    'one that never fits must not come back',
  )
})

t.test('without a queue, what cannot run at once is refused', async t => {
  const admission = new Admission({ ...LIMITS, maxRunning: 1, maxQueued: 0 })
  const running = admission.admit(one())
  t.equal(refusal(() => admission.check())?.status, 429)
  t.equal(refusal(() => admission.admit(one()))?.status, 429)
  running[Symbol.dispose]()
  admission.check()
  t.ok(admission.admit(one()))
})
