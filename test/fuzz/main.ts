/** npm run fuzz: see HELP. */

import { parseArgs } from 'node:util'
import { CORPUS, type Target } from './corpus.js'
import { Summary } from './summary.js'
import { supervise } from './supervisor.js'

const HELP = `npm run fuzz -- [options]

  --target=parsers|loads  parsers in process (default), or whole loads and two tokens of text
  --format=NAME           this format alone; the summary names them
  --minutes=N             ends after so many minutes; default 1 without --inputs
  --inputs=N              ends after so many inputs
  --seed=N                of the first input; default 1. A finding's seeds, 12.40 say, with
                          --inputs=1 run it again
  --jobs=N                processes at once; default 1
  --corpus=DIRECTORY      where findings are written; default test/fuzz/corpus

Exit status 1 if there is a finding.`

const SUMMARY_MS = 60_000

const { values } = parseArgs({
  options: {
    target: { type: 'string', default: 'parsers' },
    format: { type: 'string' },
    minutes: { type: 'string' },
    inputs: { type: 'string' },
    seed: { type: 'string', default: '1' },
    jobs: { type: 'string', default: '1' },
    corpus: { type: 'string', default: CORPUS },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) console.log(HELP)
else await main()

function positive(name: string, text: string): number {
  const number = Number(text)
  if (number > 0) return number
  throw new RangeError(`--${name}: expected a number above 0, got ${text}`)
}

async function main(): Promise<void> {
  const target = values.target as Target
  if (target !== 'parsers' && target !== 'loads')
    throw new RangeError(`--target: expected parsers or loads, got ${target}`)
  const inputs = values.inputs === undefined ? 2 ** 40 : positive('inputs', values.inputs)
  const minutes =
    values.minutes === undefined
      ? values.inputs === undefined
        ? 1
        : 1e6
      : positive('minutes', values.minutes)
  const jobs = positive('jobs', values.jobs)
  const chain = values.inputs === '1' ? values.seed : undefined
  const seed = positive('seed', values.seed.split('.').at(-1)!)
  const summary = new Summary(values.corpus)
  const timer = setInterval(() => console.log(summary.line()), SUMMARY_MS)
  const until = Date.now() + minutes * 60_000
  await Promise.all(
    Array.from({ length: jobs }, (_, job) =>
      supervise(
        {
          target,
          format: values.format,
          from: seed + job,
          step: jobs,
          inputs: Math.ceil((inputs - job) / jobs),
          chain,
          until,
        },
        {
          report: report => summary.add(report),
          died: entry => summary.found(entry),
          rss: bytes => summary.seen(bytes),
        },
      ),
    ),
  )
  clearInterval(timer)
  console.log(summary.text())
  if (summary.findings > 0) process.exitCode = 1
}
