/** npm run soak: see HELP. */
import { parseArgs } from 'node:util'
import { soak } from './soak.js'

const HELP = `npm run soak -- [--minutes=60] [--seed=1]

A server with a small model, and 64 clients in four processes: completions and chats, whole and
streamed. They leave in the middle, read slowly, or send requests that are wrong. One process of
clients after the other is killed. At the end nothing may run, wait or hold a page of the KV cache,
and memory must be flat.

Exit status 1 if something else comes than must.`

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    seed: { type: 'string', default: '1' },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) console.log(HELP)
else if (!(Number(values.minutes) > 0)) {
  console.error(`--minutes: expected a number above 0, got ${values.minutes}`)
  process.exitCode = 2
} else {
  const { counts, memory, faults } = await soak({
    minutes: Number(values.minutes),
    seed: Number(values.seed),
    log: console.log,
  })
  console.log(counts)
  console.log(`resident memory in MB: ${memory.map(bytes => (bytes / 1e6).toFixed(0)).join(' ')}`)
  for (const fault of faults) console.error(fault)
  process.exitCode = faults.length > 0 ? 1 : 0
}
