// Runs the native tests, then the TypeScript tests. The last line counts both.
//
//   node scripts/run-tests.mjs [test files]     with files, those TypeScript tests alone
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { programs, root } from './build-native.mjs'

const files = process.argv.slice(2)

// Without a terminal tap writes plain lines, as it does where CI is set: no line is rewritten.
const env = process.stdout.isTTY ? process.env : { ...process.env, CI: process.env.CI || 'true' }

/** Runs a program with its output shown; resolves to its status and the text of its output. */
function runShown(command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'inherit'] })
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

if (files.length === 0) {
  for (const [program, args] of [
    [programs.native, ['test', '--cpu']],
    [programs.simt, []],
  ]) {
    const native = await runShown(program, args)
    const counts = /^(\d+) passed, (\d+) failed$/m.exec(native.text)
    passed += Number(counts?.[1] ?? 0)
    failed += Number(counts?.[2] ?? 1)
    status ||= native.status
  }
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
