import t from 'tap'
import { deferred } from '../../lib/generation/job.js'

t.test('a job that is cancelled while it begins is cancelled once it is known', async t => {
  let cancelled = 0
  const job = deferred(undefined, async signal => {
    await Promise.resolve()
    job.cancel()
    t.ok(signal.aborted)
    return { done: Promise.resolve(5), cancel: () => cancelled++ }
  })
  t.equal(await job.done, 5)
  t.equal(cancelled, 1)
})
