/** Guesses of the next tokens change the steps, and none of the results. */
import t from 'tap'
import { Engine } from '../../lib/engine/engine.js'
import { type FakeOptions, FakeRunner } from './fake-runner.js'
import { alone, range, submit, type Wish } from './requests.js'

const PROMPT = { tokens: range(1, 8), newTokens: 12 }

/** With guesses of its own tokens, wrong at some places. */
async function guessing(wish: Wish, most: number, wrong: readonly number[] = []): Promise<Wish> {
  const { tokenIds } = (await alone(wish)).got
  const tokens = tokenIds.map((token, i) => (wrong.includes(i) ? (token + 1) % 50 : token))
  return { ...wish, guesses: { tokens, most } }
}

async function run(wish: Wish, options: FakeOptions = {}) {
  const runner = new FakeRunner(options)
  const engine = new Engine(runner)
  const { done, got } = submit(engine, wish)
  const report = await done
  t.same(got, (await alone(wish, options)).got, 'the results are those without guesses')
  const sizes = runner.steps.map(step => step.tokens.length)
  return { sizes, report, stats: engine.stats(), runner, engine }
}

t.test('right guesses save steps', async t => {
  const { sizes, report, stats } = await run(await guessing(PROMPT, 4))
  t.same(sizes, [7, 5, 5, 1], '12 tokens: one of the prompt, two times 4 + 1, one more')
  t.match(report, { draftedTokens: 8, acceptedTokens: 8 })
  t.match(stats, { draftedTokens: 8, acceptedTokens: 8, promptTokens: 7 })
})

t.test('guesses count up to the first wrong one', async t => {
  const { sizes, report } = await run(await guessing(PROMPT, 4, [2, 5]))
  t.same(sizes, [7, 5, 5, 5, 1])
  t.match(report, { draftedTokens: 4 + 4 + 4, acceptedTokens: 1 + 2 + 4 })
})

t.test('captured rows are those of the text', async t => {
  const capture = ['layers.1.router_logits', 'layers.0.expert_indices']
  const { report } = await run(await guessing({ ...PROMPT, capture }, 3, [1, 2, 6]))
  t.ok(report.draftedTokens > report.acceptedTokens)
})

t.test('the largest logits of guesses where they suffice', async t => {
  const wish = await guessing(PROMPT, 4)
  const expected = (await alone(PROMPT)).got
  // The steps begin at positions 6, 7 and 12. A guess whose row does not suffice ends the step like
  // a wrong one.
  for (const [until, again] of [
    [6, 1],
    [8, 0],
    [11, 0],
    [12, 1],
    [100, 0],
  ] as const) {
    const runner = new FakeRunner()
    const engine = new Engine(runner)
    const { got, done } = submit(engine, { ...wish, takesTop: position => position < until })
    await done
    t.same(got.tokenIds, expected.tokenIds)
    for (const [position, row] of got.rows) {
      t.equal(row.startsWith('largest'), position < until, `position ${position}`)
      if (position >= until) t.equal(row, expected.rows.get(position))
    }
    const { acceptedTokens, steps } = engine.stats()
    t.equal(steps, PROMPT.newTokens + again - acceptedTokens, 'each right guess saves a step')
  }
})

t.test('the end within right guesses', async t => {
  const wish = await guessing({ ...PROMPT, newTokens: 12 }, 8)
  const runner = new FakeRunner()
  const { got, done } = submit(new Engine(runner), { ...wish, newTokens: 12 })
  await done
  t.equal(got.tokenIds.length, 12)
  // The consumer guesses on, as one that ends at a stop string does.
  const early = { ...wish, newTokens: 5, guesses: wish.guesses! }
  const cut = new Engine(new FakeRunner())
  let cancel = () => {}
  const leaving = submit(cut, { ...wish, onToken: count => count === 5 && cancel() })
  cancel = leaving.cancel
  t.equal((await leaving.done).cancelled, true)
  t.same(leaving.got.tokenIds, (await alone(early)).got.tokenIds)
})

t.test('keys of guesses have the variant of their own place', async t => {
  for (const sharedVariant of [3, 8, 10]) {
    const options = { sharedVariant }
    const { tokenIds } = (await alone(PROMPT, options)).got
    const { sizes } = await run({ ...PROMPT, guesses: { tokens: tokenIds, most: 5 } }, options)
    t.same(sizes, [7, 6, 5], 'guesses of several variants are one step')
  }
})

t.test('pages of guesses are free ones, and are given back', async t => {
  // Both texts have 16 tokens, of 4 pages each, when the second ends.
  const wish = await guessing(PROMPT, 6, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  const other = { tokens: range(20, 27), newTokens: 10 }
  const runner = new FakeRunner({ pages: 8, maxStepTokens: 32 })
  const engine = new Engine(runner)
  const both = [submit(engine, wish), submit(engine, other)]
  await Promise.all(both.map(({ done }) => done))
  t.equal(engine.stats().preemptions, 0, 'wrong guesses take no page from another text')
  t.ok(engine.stats().draftedTokens > 0)
  t.same(both[0]!.got, (await alone(wish)).got)
  t.same(both[1]!.got, (await alone(other)).got)
  t.equal(engine.stats().kvPagesUsed, 0)
})

t.test('what was computed as a guess is shared only if it came', async t => {
  const { engine } = await run(await guessing(PROMPT, 6, [3, 8]))
  const { tokenIds } = (await alone(PROMPT)).got
  for (const more of [tokenIds, [...tokenIds.slice(0, 3), (tokenIds[3]! + 1) % 50, 9]]) {
    const wish = { tokens: [...PROMPT.tokens, ...more], newTokens: 3 }
    const { done, got } = submit(engine, wish)
    t.equal((await done).cachedTokens, more === tokenIds ? 18 : 10)
    t.same(got, (await alone(wish)).got)
  }
})

t.test('guesses are for small steps', async t => {
  const wishes = await Promise.all(
    range(0, 40).map(i => guessing({ tokens: [i, 3, 5], newTokens: 20 }, 64)),
  )
  for (const [count, most] of [
    [1, 32],
    [4, 32],
    [12, 32],
    [31, 32],
    [32, 32],
    [40, 40],
  ] as const) {
    const runner = new FakeRunner({ pages: 400, maxStepTokens: 200 })
    const engine = new Engine(runner)
    const all = wishes.slice(0, count).map(wish => submit(engine, wish))
    await Promise.all(all.map(({ done }) => done))
    const sizes = runner.steps.slice(1).map(step => step.tokens.length)
    t.equal(Math.max(...sizes), Math.min(most, count * 19), `${count} texts`)
    t.equal(engine.stats().draftedTokens > 0, count < 32)
  }
})
