/** The rounds of ranks without a model: who computes when, letters, ends. */
import t, { type Test } from 'tap'
import { loadBinding, type NativeGroup } from '../../lib/addon/binding.js'
import type { Step } from '../../lib/engine/runner.js'
import { MoeppError } from '../../lib/errors.js'
import { Lockstep, type Post } from '../../lib/parallel/lockstep.js'
import { readMail, writeMail } from '../../lib/parallel/mail.js'

interface Rank {
  readonly lockstep: Lockstep
  readonly group: NativeGroup
  /** [own tokens, tokens of all] of each step. */
  readonly steps: [number, number][]
  readonly received: unknown[]
  expects: boolean
  failure: MoeppError | undefined
}

function stepOf(tokens: number): Step {
  return {
    tokens: new Int32Array(tokens),
    positions: new Int32Array(tokens),
    preceding: new Int32Array(),
    sequenceStarts: new Int32Array([0, tokens]),
    pageTable: new Int32Array(4),
    keyVariants: new Int32Array(1),
    copies: new Int32Array(),
    logitRows: new Int32Array(),
    wanted: { whole: false, top: false, logSumExp: false },
    capture: [],
  }
}

function ranksOf(t: Test, size: number, fault?: (rank: number) => void): Rank[] {
  const ranks = loadBinding()
    .localGroups(size, 2000)
    .map(group => {
      const steps: Rank['steps'] = []
      const lockstep = new Lockstep(group, 2000, async (step, mail, onLetters) => {
        const received = await group.exchange(mail)
        onLetters(received)
        const groupTokens = received.reduce((sum, each, r) => sum + readMail(each, r).tokens, 0)
        if (groupTokens === 0) return undefined
        steps.push([step?.tokens.length ?? 0, groupTokens])
        fault?.(group.rank)
        return { captured: {} }
      })
      const rank: Rank = {
        lockstep,
        group,
        steps,
        received: [],
        expects: false,
        failure: undefined,
      }
      const post: Post = {
        get expects() {
          return rank.expects
        },
        receive: (letters, from) => rank.received.push(...letters.map(each => [from, each])),
        fail: error => {
          rank.failure = error
        },
      }
      lockstep.begin(post)
      return rank
    })
  t.teardown(() => Promise.all(ranks.map(({ lockstep }) => lockstep.close())))
  return ranks
}

/** More than any wait of these tests. Without it a loop would go on after the test's time. */
const MOST_MS = 20_000

/** Ranks without a program finish a step each in its own time. */
async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + MOST_MS
  while (!condition()) {
    if (performance.now() > end) throw new Error(`${condition}: not within ${MOST_MS} ms`)
    await new Promise(setImmediate)
  }
}

t.test('all ranks take part in the steps of each', async t => {
  const [first, second] = ranksOf(t, 2) as [Rank, Rank]
  await first.lockstep.run(stepOf(5))
  await until(() => second.steps.length === 1)
  t.same(first.steps, [[5, 5]])
  t.same(second.steps, [[0, 5]])
  // Rank 0 looks for it because it expects an answer.
  first.expects = true
  await second.lockstep.run(stepOf(3))
  first.expects = false
  await until(() => first.steps.length === 2)
  t.same(first.steps.at(-1), [0, 3])
  t.same(second.steps.at(-1), [3, 3])
})

t.test('an engine that is awake is waited for', async t => {
  const [first, second] = ranksOf(t, 2) as [Rank, Rank]
  await second.lockstep.wakes()
  const own = first.lockstep.run(stepOf(2))
  await new Promise(resolve => setTimeout(resolve, 50))
  t.same(first.steps, [], 'rank 1 has not said what it wants')
  await Promise.all([own, second.lockstep.run(stepOf(4))])
  t.same(first.steps, [[2, 6]])
  t.same(second.steps, [[4, 6]])
  second.lockstep.rests()
  await first.lockstep.run(stepOf(1))
  await until(() => second.steps.length === 2)
  t.same(second.steps.at(-1), [0, 1])
})

t.test('letters come in order, with their step', async t => {
  const [first, second] = ranksOf(t, 2) as [Rank, Rank]
  first.lockstep.send(1, { a: new Float32Array([1, -Infinity]) })
  first.lockstep.send(1, new Map([[1, 2]]))
  await first.lockstep.run(stepOf(1))
  await until(() => second.steps.length === 1)
  t.same(second.received, [
    [0, { a: new Float32Array([1, -Infinity]) }],
    [0, new Map([[1, 2]])],
  ])
  second.lockstep.send(0, 'answer')
  first.expects = true
  await until(() => first.received.length > 0)
  t.same(first.received, [[1, 'answer']])
  first.expects = false
})

t.test('idle ranks exchange heartbeats, and nothing else', async t => {
  const [first] = ranksOf(t, 2) as [Rank, Rank]
  await new Promise(resolve => setTimeout(resolve, 1200))
  const { exchanges } = first.group.info()
  // Every 500 ms, a fourth of the deadline.
  t.ok(exchanges >= 1 && exchanges <= 4, `${exchanges} exchanges`)
})

t.test('rank 0 ends the group', async t => {
  const [first, second] = ranksOf(t, 2) as [Rank, Rank]
  const running = first.lockstep.run(stepOf(1))
  await Promise.all([first.lockstep.close(), second.lockstep.ended])
  await running
  for (const { lockstep, failure } of [first, second]) {
    t.match(failure, { code: 'ERR_CLOSED' })
    await t.rejects(lockstep.run(stepOf(1)), { code: 'ERR_CLOSED' })
  }
})

t.test('a failed step ends the group on all ranks', async t => {
  let steps = 0
  const [first, second] = ranksOf(t, 2, rank => {
    if (rank === 1 && ++steps === 2)
      throw new MoeppError('ERR_OUT_OF_MEMORY', 'no memory for a step')
  }) as [Rank, Rank]
  await first.lockstep.run(stepOf(1))
  await first.lockstep.run(stepOf(1)).catch(() => {})
  await t.rejects(first.lockstep.run(stepOf(1)), {
    code: 'ERR_PARALLEL',
    message: /rank 1 failed: .*no memory for a step/,
  })
  await t.rejects(first.lockstep.ended, { code: 'ERR_PARALLEL' })
  await t.rejects(second.lockstep.ended, { code: 'ERR_OUT_OF_MEMORY' })
  t.match(first.failure, { code: 'ERR_PARALLEL' })
})

t.test('a rank that is silent ends the group at the deadline', async t => {
  const [group, silent] = loadBinding().localGroups(2, 200)
  const lockstep = new Lockstep(group!, 200, async (_, mail) => {
    await group!.exchange(mail)
    return { captured: {} }
  })
  lockstep.begin()
  await t.rejects(lockstep.run(stepOf(1)), { code: 'ERR_PARALLEL', message: /rank 1.* 200 ms/ })
  await lockstep.close()
  t.equal(silent!.rank, 1, 'it is still there')
})

t.test('letters that cannot be read end the group', async t => {
  const [group, other] = loadBinding().localGroups(2, 2000)
  const lockstep = new Lockstep(group!, 2000, async (_, mail, onLetters) => {
    onLetters(await group!.exchange(mail))
    return { captured: {} }
  })
  lockstep.begin()
  const running = lockstep.run(stepOf(1))
  // The failure may be there before the exchange ends.
  const sent = other!.exchange([Buffer.from([1, 0, 0, 0, 9]), new Uint8Array(4)]).catch(() => {})
  const expected = { code: 'ERR_PARALLEL', message: /message of rank 1 \(5 bytes\) cannot be read/ }
  await t.rejects(running, expected)
  await t.rejects(lockstep.ended, expected)
  await sent
  await lockstep.close()
  await other!.close().catch(() => {})
})

t.test('mail that is none', async t => {
  const mail = { tokens: 7, isLast: true, letters: [1, 'two'] }
  t.same(readMail(writeMail(mail), 1), mail)
  const short = { tokens: 7, isLast: false, letters: [] }
  t.equal(writeMail(short).length, 4)
  t.same(readMail(writeMail(short), 1), short)
  const whole = Buffer.from(writeMail(mail))
  for (let length = 0; length < whole.length; length++) {
    if (length === 4) continue
    t.throws(() => readMail(whole.subarray(0, length), 1), {
      code: 'ERR_PARALLEL',
      message: /the message of rank 1 \(\d+ bytes\) cannot be read/,
    })
  }
})
