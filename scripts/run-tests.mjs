// Runs tests, two programs at a time. Failures of TypeScript tests come once more at the end. The
// last line counts all tests.
//
//   node scripts/run-tests.mjs              the fast tier: the native tests of the CPU, and the
//                                           TypeScript tests but those called *.slow.test.ts
//   node scripts/run-tests.mjs --slow       the slow tier: the rest, and the native tests of the
//                                           CUDA kernels, emulated; each kernel must be launched
//   node scripts/run-tests.mjs --all        both
//   node scripts/run-tests.mjs FILES        those TypeScript tests
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { programs, root } from './build-native.mjs'
import { checkCoverage } from './kernel-coverage.mjs'
import { failuresOf, totalsOf } from './tap-output.mjs'
import { compiled, compileTests } from './typescript.mjs'

const AT_A_TIME = 2
/** Ends what hangs. Emulated kernels take some 10 minutes where four programs share two cores. */
const TIMEOUT_S = 1800

const counts = { passed: 0, failed: 0, skipped: 0 }
/** Of all files, for the end of a long output. */
const failed = []

function count({ passed, failed, skipped = 0 }) {
  counts.passed += passed
  counts.failed += failed
  counts.skipped += skipped
}

/** Runs a program; resolves to its status, 1 after a signal, and the text of its output. */
function run(program, args, env = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: root,
      env: { ...process.env, TAP_TIMEOUT: String(TIMEOUT_S), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 1000 * TIMEOUT_S,
      // tap handles SIGTERM, for which a test in an endless loop has no time.
      killSignal: 'SIGKILL',
    })
    let text = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8')
      stream.on('data', part => {
        text += part
      })
    }
    child.on('error', reject)
    child.on('close', (status, signal) => resolve({ status: status ?? 1, signal, text }))
  })
}

/** Runs a program of native tests; true if all passed. */
async function native(program, args, env) {
  const { status, signal, text } = await run(program, args, env)
  const [, passed = 0, failed = 1] = /^(\d+) passed, (\d+) failed$/m.exec(text) ?? []
  process.stdout.write(text)
  const broken = status !== 0 && Number(failed) === 0
  if (broken) console.log(`${program}: ${signal ?? `status ${status}`}`)
  count({ passed: Number(passed), failed: Number(failed) + Number(broken) })
  return status === 0
}

/** The counters of the emulation, where the compiler was one that they can be built by. */
async function counters() {
  if (existsSync(programs.count)) await native(programs.count, ['test', 'traffic'])
  else count({ passed: 0, failed: 0, skipped: 1 })
}

async function emulated() {
  const folder = mkdtempSync(join(tmpdir(), 'moepp-launched-'))
  const launched = join(folder, 'kernels')
  try {
    if (!(await native(programs.simt, [], { MOEPP_LAUNCHED_KERNELS: launched }))) return
    const covered = checkCoverage(launched)
    count({ passed: Number(covered), failed: Number(!covered) })
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Runs a file of TypeScript tests in a process of its own. */
async function typescript(file) {
  const start = performance.now()
  // Random models have few positions. This warning is not printed, and tests still receive it.
  const quiet = '--disable-warning=MOEPP_BEYOND_POSITIONS'
  const { status, signal, text } = await run(process.execPath, [
    '--enable-source-maps',
    quiet,
    compiled(file),
  ])
  const seconds = ((performance.now() - start) / 1000).toFixed(1)
  const totals = totalsOf(text)
  const failures = failuresOf(text)
  if (status !== 0 && failures.length === 0) {
    failures.push(`${file}: ${signal ?? `status ${status}`}\n${text}`)
  } else if (status === 0 && totals === undefined) {
    failures.push(`${file}: no totals\n${text}`)
  }
  const { passed = 0, skipped = 0 } = totals ?? {}
  for (const failure of failures) console.log(failure)
  console.log(
    `${file}: ${passed} passed, ${failures.length} failed, ${skipped} skipped, ${seconds} s`,
  )
  failed.push(...failures.map(failure => `${file}:\n${failure}`))
  count({ passed, failed: failures.length, skipped })
}

/** The tests of the tiers, as functions that run them. */
function tests(options) {
  const fast = !options.includes('--slow')
  const slow = options.includes('--slow') || options.includes('--all')
  const files = readdirSync(join(root, 'test'), { recursive: true })
    .filter(file => file.endsWith('.test.ts'))
    .filter(file => (file.endsWith('.slow.test.ts') ? slow : fast))
    .map(file => join('test', file))
    .sort()
  return [
    ...(slow ? [emulated, counters] : []),
    ...(fast ? [() => native(programs.native, ['test', '--cpu'])] : []),
    ...files.map(file => () => typescript(file)),
  ]
}

const args = process.argv.slice(2)
const files = args.filter(each => !each.startsWith('--'))
await compileTests()
const left = files.length > 0 ? files.map(file => () => typescript(file)) : tests(args)
await Promise.all(
  Array.from({ length: AT_A_TIME }, async () => {
    for (let test = left.shift(); test; test = left.shift()) await test()
  }),
)
if (failed.length > 0) console.log(`\nFailed:\n${failed.join('\n')}`)
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`)
process.exitCode = counts.failed === 0 ? 0 : 1
