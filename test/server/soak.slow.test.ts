/** A short soak; `npm run soak` is the long one. */
import t from 'tap'
import { soak } from '../soak/soak.js'

t.test('a server under hard use', async t => {
  const { counts, memory, faults } = await soak({ minutes: 0.4, seed: 1 })
  t.comment(JSON.stringify(counts), memory)
  t.strictSame(faults, [])
  for (const end of ['200', '400', 'left']) t.ok((counts[end] ?? 0) > 0, `some ended so: ${end}`)
})
