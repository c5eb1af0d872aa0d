/** Starts workers, and starts them again when they die, hang or take too much memory. */

import { type ChildProcess, fork } from 'node:child_process'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { CorpusEntry, Target } from './corpus.js'
import { SCRATCH, scratch } from './readers.js'
import { type Counts, Session } from './session.js'

const WORKER = fileURLToPath(new URL('worker.js', import.meta.url))
const HANG_MS = 10_000
/** Until the first report. */
const START_MS = 60_000
const MOST_RSS_BYTES = 2 ** 31
const WATCH_MS = 250

/** The task of a worker: inputs from the seed `from`, each `step`-th. */
export interface Task {
  readonly target: Target
  readonly format: string | undefined
  readonly from: number
  readonly step: number
  readonly inputs: number
  /** Seeds joined by dots, in place of `from`. */
  readonly chain: string | undefined
  /** Milliseconds since 1970. */
  readonly until: number
  readonly currentFile: string
}

/** A worker's counts since its last report. */
export interface Report {
  /** The seed that comes next. */
  readonly next: number
  readonly done: number
  readonly formats: Counts
  readonly outcomes: Counts
  readonly places: number
  readonly findings: readonly CorpusEntry[]
}

export interface Events {
  readonly report: (report: Report) => void
  /** A worker died of an input. */
  readonly died: (entry: CorpusEntry) => void
  readonly rss: (bytes: number) => void
}

/** Runs a task to its end, in as many processes as it takes. */
export async function supervise(
  task: Omit<Task, 'currentFile'>,
  events: Events,
  program = WORKER,
): Promise<void> {
  const folder = scratch()
  const currentFile = join(folder, 'current')
  const end = task.from + task.inputs * task.step
  try {
    for (let from = task.from; from < end && Date.now() < task.until; ) {
      const inputs = Math.ceil((end - from) / task.step)
      const { next, why } = await runWorker({ ...task, from, inputs, currentFile }, events, program)
      if (why === undefined) break
      const id = existsSync(currentFile) ? readFileSync(currentFile, 'utf8').split('\n')[0]! : ''
      if (id === '') throw new Error(`a worker ${why} before its first input`)
      events.died(await entryOf(task, id, why))
      const last = Number(id.split('.').at(-1))
      from = Math.max(next, last + task.step)
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

async function entryOf(
  { target, format: only }: Pick<Task, 'target' | 'format'>,
  id: string,
  found: string,
): Promise<CorpusEntry> {
  const session = await Session.start(target, only)
  try {
    const { format, files } = session.inputs.byId(id)
    return { target, format: format.name, seed: id, found, files }
  } finally {
    session.close()
  }
}

async function runWorker(
  task: Task,
  events: Events,
  program: string,
): Promise<{ next: number; why?: string }> {
  rmSync(task.currentFile, { force: true })
  const env = { ...process.env, [SCRATCH]: dirname(task.currentFile) }
  const child = fork(program, {
    env,
    serialization: 'advanced',
    execArgv: process.execArgv,
  })
  let next = task.from
  let heard = Date.now() + START_MS
  let killed: string | undefined
  const watch = setInterval(() => {
    const rss = rssOf(child)
    events.rss(rss)
    if (rss > MOST_RSS_BYTES) killed ??= `took ${Math.round(rss / 2 ** 20)} MiB of memory`
    if (Date.now() - heard > HANG_MS + WATCH_MS) killed ??= `hung for more than ${HANG_MS / 1000} s`
    if (killed) child.kill('SIGKILL')
  }, WATCH_MS)
  child.on('message', (report: Report) => {
    heard = Date.now()
    next = report.next
    events.report(report)
  })
  child.send(task)
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>(done =>
    child.on('exit', (...ended) => done(ended)),
  )
  clearInterval(watch)
  if (code === 70) throw new Error('a worker failed by its own fault')
  if (code === 0) return { next }
  return { next, why: killed ?? (signal ? `died of ${signal}` : `exited with ${code}`) }
}

/** 0 where the system does not say. */
function rssOf({ pid }: ChildProcess): number {
  try {
    return Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]) * 4096
  } catch {
    return 0
  }
}
