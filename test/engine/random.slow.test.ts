/** Random loads on small caches give every sequence the bits that it has alone. */
import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import { Engine } from '../../lib/engine/engine.js'
import { MoeppError } from '../../lib/errors.js'
import { type FakeOptions, FakeRunner, mix } from './fake-runner.js'
import { alone, type Got, submit, type Wish } from './requests.js'

const LOADS = 150

class Random {
  #step = 0
  constructor(private readonly seed: number) {}
  below(limit: number): number {
    return mix(this.seed, ++this.#step, 99) % limit
  }
  chance(percent: number): boolean {
    return this.below(100) < percent
  }
  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!
  }
}

interface Job {
  readonly wish: Wish
  /** Cancel after so many tokens. */
  readonly leavesAfter: number
}

function prompts(random: Random, most: number, vocabSize: number): number[][] {
  const list: number[][] = [[1]]
  const count = 1 + random.below(20)
  for (let i = 0; i < count; i++) {
    const beginning = random.pick(list).slice(0, 1 + random.below(most))
    const more = random.below(Math.max(1, most - beginning.length))
    list.push([...beginning, ...Array.from({ length: more }, () => random.below(vocabSize))])
  }
  return list
}

/** A sequence's tokens, some of them wrong. */
async function guessesOf(random: Random, wish: Wish, options: FakeOptions) {
  const { got } = await alone(wish, options)
  const wrong = random.below(40)
  const tokens = got.tokenIds.map(token =>
    random.chance(wrong) ? random.below(options.vocabSize!) : token,
  )
  return { tokens, most: 1 + random.below(12) }
}

async function load(random: Random, capacity: number, options: FakeOptions): Promise<Job[]> {
  const jobs: Job[] = []
  for (const tokens of prompts(random, capacity, options.vocabSize!)) {
    const newTokens = 1 + random.below(capacity - tokens.length + 1)
    const isForward = random.chance(15)
    const capture = random.chance(20) ? ['layers.0.router_logits', 'layers.1.expert_indices'] : []
    const leavesAfter = random.chance(15) ? 1 + random.below(newTokens) : Number.POSITIVE_INFINITY
    const until = random.below(2 * capacity)
    const plain = {
      tokens,
      newTokens,
      capture,
      ...(isForward && { logitsFrom: random.below(tokens.length) }),
      ...(!isForward && random.chance(40) && { takesTop: (position: number) => position < until }),
    }
    const wish = random.chance(50)
      ? { ...plain, guesses: await guessesOf(random, plain, options) }
      : plain
    jobs.push({ wish, leavesAfter })
    if (random.chance(20)) jobs.push({ wish, leavesAfter: Number.POSITIVE_INFINITY })
  }
  return jobs
}

/** The results of a job that was cut short must be the beginning of its results alone. */
function isBeginning(got: Got, whole: Got): boolean {
  const rows = [...got.rows].every(([position, row]) => whole.rows.get(position) === row)
  const tokens = got.tokenIds.every((token, i) => token === whole.tokenIds[i])
  const captured = Object.entries(got.captured).every(([name, values]) =>
    values.every((value, i) => value === whole.captured[name]![i]),
  )
  return rows && tokens && captured
}

async function runLoad(seed: number): Promise<{
  wrong: string[]
  preempted: boolean
  shared: boolean
  moved: number
  saved: boolean
}> {
  const random = new Random(seed)
  const pageSize = 1 + random.below(8)
  const pages = 2 + random.below(20)
  const options = {
    pageSize,
    pages,
    vocabSize: 3 + random.below(10),
    contextLength: 1000,
    maxStepTokens: 1 + random.below(24),
    maxLogitRows: 2 + random.below(12),
    sharedVariant: random.chance(30) ? random.below(20) : Number.POSITIVE_INFINITY,
  }
  const runner = new FakeRunner(options)
  const engine = new Engine(runner)
  const capacity = Math.min(60, engine.maxTokens)
  const jobs = await load(random, capacity, options)
  const wrong: string[] = []
  let cached = 0
  let moved = 0
  const run = async ({ wish, leavesAfter }: Job, name: string) => {
    let cancel = () => {}
    const onToken = (count: number) => count === leavesAfter && cancel()
    const { done, got, ...rest } = submit(engine, { ...wish, onToken })
    cancel = rest.cancel
    const ended = Promise.allSettled([done])
    const whole = (await alone(wish, options)).got
    await ended
    try {
      const report = await done
      cached += report.cachedTokens
      const isWhole = report.cancelled || got.tokenIds.length === wish.newTokens
      if (!isWhole || !isBeginning(got, whole)) wrong.push(name)
      if (!report.cancelled && got.rows.size !== whole.rows.size)
        wrong.push(`${name}: rows are missing`)
    } catch (error) {
      if ((error as MoeppError).code !== 'ERR_DEVICE') wrong.push(`${name}: ${error}`)
      if (!isBeginning(got, whole)) wrong.push(name)
    }
  }
  const pause = async () => {
    for (let n = random.below(12); n > 0; n--) await setImmediate()
  }
  /** Takes a text's pages out of the cache and puts them back later, as state files do. */
  const move = async (tokens: readonly number[], name: string) => {
    try {
      const { done } = engine.submit({
        tokens,
        logitsFrom: tokens.length - 1,
        keepsPages: true,
        capture: [],
        consumer: { next: () => undefined },
      })
      const { pages } = await done
      await pause()
      const state = await engine.betweenSteps(async () =>
        pages!.map(({ index }) => runner.readPage(0, index)),
      )
      engine.release(pages!)
      await pause()
      const reserved = engine.reserve(tokens)
      if (!reserved) return
      await engine.betweenSteps(async () => {
        for (const [i, { index }] of reserved.pages.entries())
          if (i >= reserved.shared) runner.writePage(0, index, state[i]!)
      })
      await pause()
      if (!random.chance(20)) engine.adopt(reserved)
      engine.release(reserved.pages)
      moved++
    } catch (error) {
      if ((error as MoeppError).code !== 'ERR_DEVICE') wrong.push(`${name}: ${error}`)
    }
  }
  const running: Promise<void>[] = []
  for (const [i, job] of jobs.entries()) {
    running.push(run(job, `seed ${seed}, sequence ${i}`))
    if (random.chance(25)) running.push(move(job.wish.tokens, `seed ${seed}, state ${i}`))
    if (random.chance(5)) runner.failures.push(new MoeppError('ERR_DEVICE', 'broken'))
    if (random.chance(30)) for (let n = random.below(20); n >= 0; n--) await setImmediate()
  }
  await Promise.all(running)
  runner.failures.length = 0
  // No page was lost: a sequence that needs them all still fits.
  const largest = { tokens: Array.from({ length: engine.maxTokens }, () => 2), newTokens: 1 }
  await run({ wish: largest, leavesAfter: Number.POSITIVE_INFINITY }, `seed ${seed}, all pages`)
  await engine.close()
  const { preemptions, acceptedTokens } = engine.stats()
  return {
    wrong,
    preempted: preemptions > 0,
    shared: cached > 0,
    moved,
    saved: acceptedTokens > 0,
  }
}

t.test('random loads', async t => {
  const results = []
  for (let seed = 0; seed < LOADS; seed++) results.push(await runLoad(seed))
  t.same(
    results.flatMap(result => result.wrong),
    [],
  )
  t.ok(results.filter(result => result.preempted).length > 10, 'some were preempted')
  t.ok(results.filter(result => result.shared).length > 50, 'some shared')
  t.ok(results.filter(result => result.moved > 0).length > 50, 'some went through a file')
  t.ok(results.filter(result => result.saved).length > 50, 'some guessed right')
})
