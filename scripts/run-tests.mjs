// Runs the native tests, then the TypeScript tests. The last line counts both. A kernel that the
// emulated tests never launched is a failure, too (scripts/kernel-coverage.mjs).
//
//   node scripts/run-tests.mjs [test files]     with files, those TypeScript tests alone
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { programs, root } from './build-native.mjs'
import { checkCoverage } from './kernel-coverage.mjs'

const files = process.argv.slice(2)

// Without a terminal tap writes plain lines, as it does where CI is set: no line is rewritten.
const env = process.stdout.isTTY ? process.env : { ...process.env, CI: process.env.CI || 'true' }

/** Runs a program with its output shown; resolves to its status and the text of its output. */
function runShown(command, args, more = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: root,
      env: { ...env, ...more },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let text = ''
    child.stdout.setEncoding('utf8')
    child.stdout.on('data', part => {
      process.stdout.write(part)
      text += part
    })
    child.on('error', reject)
    child.on('close', (status, signal) => resolve({ status: status ?? (signal ? 1 : 0), text }))
  })
}

let passed = 0
let failed = 0
let skipped = 0
let status = 0

/** Runs a program of native tests and counts them; true if all passed. */
async function runNative(program, args, more) {
  const native = await runShown(program, args, more)
  const counts = /^(\d+) passed, (\d+) failed$/m.exec(native.text)
  passed += Number(counts?.[1] ?? 0)
  failed += Number(counts?.[2] ?? 1)
  status ||= native.status
  return native.status === 0
}

/** The TypeScript tests run whatever it says. */
function isCovered(launched) {
  try {
    return checkCoverage(launched)
  } catch (error) {
    console.error(`kernel-coverage: ${error.message}`)
    return false
  }
}

if (files.length === 0) {
  await runNative(programs.native, ['test', '--cpu'])
  const folder = mkdtempSync(join(tmpdir(), 'moepp-launched-'))
  const launched = join(folder, 'kernels')
  if (await runNative(programs.simt, [], { MOEPP_LAUNCHED_KERNELS: launched })) {
    const covered = isCovered(launched)
    passed += Number(covered)
    failed += Number(!covered)
    if (!covered) status = 1
  }
  rmSync(folder, { recursive: true })
}

const tap = await runShown(process.execPath, [
  join(root, 'node_modules', 'tap', 'dist', 'esm', 'run.mjs'),
  '--reporter=terse',
  ...files,
])
const totals = /# \{ total: \d+.*\}/.exec(tap.text)?.[0] ?? ''
const count = name => Number(new RegExp(`\\b${name}: (\\d+)`).exec(totals)?.[1] ?? 0)
passed += count('pass')
failed += count('fail')
skipped += count('skip')
status ||= tap.status
if (totals === '' && tap.status === 0) {
  console.error('moepp: tap printed no totals')
  status = 1
}

console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`)
process.exit(status)
