/** A step has no more rows of logits than its runner says, and no sequence starves for that. */
import t from 'tap'
import { Engine } from '../../lib/engine/engine.js'
import { FakeRunner } from './fake-runner.js'
import { alone, range, submit, type Wish } from './requests.js'

t.test('rows of logits are bounded, and shared out as tokens are', async t => {
  const runner = new FakeRunner({ maxLogitRows: 8, contextLength: 400, pages: 200 })
  const engine = new Engine(runner)
  const prompt = (first: number, length: number) => range(0, length).map(i => (first + 7 * i) % 50)
  const wishes: Wish[] = [
    { tokens: prompt(1, 30), newTokens: 3, logitsFrom: 0 },
    { tokens: prompt(2, 12), newTokens: 3, logitsFrom: 0 },
    { tokens: prompt(3, 9), newTokens: 3 },
    { tokens: prompt(4, 5), newTokens: 3 },
  ]
  const all = wishes.map(wish => submit(engine, wish))
  await all[3]!.done
  const rows = () => runner.steps.map(({ logitRows }) => logitRows.length)
  t.ok(runner.steps.length <= 6, 'a short prompt does not wait for those that want all rows')
  await Promise.all(all.map(({ done }) => done))
  t.equal(Math.max(...rows()), 8, 'room for rows is used up')
  t.ok(rows().filter(count => count === 8).length > 2)
  for (const [i, { got }] of all.entries()) t.same(got, (await alone(wishes[i]!)).got)
})

t.test('a step has tokens without logits where there is no room for more rows', async t => {
  const runner = new FakeRunner({ maxLogitRows: 2 })
  const { done } = submit(new Engine(runner), {
    tokens: range(1, 11),
    newTokens: 1,
    logitsFrom: 5,
  })
  await done
  t.same(
    runner.steps.map(step => step.tokens.length),
    [7, 2, 1],
  )
})

t.test('no more sequences run at once than have rows of logits', async t => {
  const runner = new FakeRunner({ maxLogitRows: 7 })
  const engine = new Engine(runner)
  const wishes = range(0, 10).map(i => ({ tokens: [i + 1, 9], newTokens: 12 }))
  const all = wishes.map(wish => submit(engine, wish))
  await Promise.all(all.map(({ done }) => done))
  t.equal(Math.max(...runner.steps.map(step => step.sequenceStarts.length - 1)), 3)
  for (const [i, { got }] of all.entries()) t.same(got, (await alone(wishes[i]!)).got)
})
