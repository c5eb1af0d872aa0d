/**
 * The process that runs inputs. It reports the outcomes to its parent now and then. Before each
 * input it writes the seeds to a file: if it dies, the file names the input.
 */

import { closeSync, openSync, writeSync } from 'node:fs'
import type { CorpusEntry } from './corpus.js'
import { Session } from './session.js'
import type { Report, Task } from './supervisor.js'

const REPORT_MS = 500

process.once('message', (task: Task) => {
  work(task).then(
    () => process.disconnect(),
    error => {
      console.error(error)
      process.exit(70)
    },
  )
})

async function work(task: Task): Promise<void> {
  const session = await Session.start(task.target, task.format)
  const current = openSync(task.currentFile, 'w')
  tell(session, task, task.from)
  let told = performance.now()
  const end = task.from + task.inputs * task.step
  for (let seed = task.from; seed < end; seed += task.step) {
    const input = task.chain ? session.inputs.byId(task.chain) : session.inputs.next(seed)
    writeSync(current, `${input.id}\n`, 0)
    await session.run(input)
    if (performance.now() - told < REPORT_MS) continue
    told = performance.now()
    tell(session, task, seed + task.step)
    if (Date.now() > task.until) break
  }
  tell(session, task, end)
  session.close()
  closeSync(current)
}

/** Counts since the last report. */
function tell(session: Session, { target }: Task, next: number): void {
  const findings = session.findings.splice(0).map(({ input, finding }): CorpusEntry => {
    const { id, format, files } = input
    return { target, format: format.name, seed: id, found: finding, files }
  })
  const { done, formats, outcomes } = session
  const report: Report = { next, done, formats, outcomes, places: session.inputs.places, findings }
  process.send!(report)
  session.done = 0
  for (const counts of [formats, outcomes])
    for (const name of Object.keys(counts)) delete counts[name]
}
