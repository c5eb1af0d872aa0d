// moepp in other people's programs: frameworks, bundlers and runtimes of pinned versions, installed
// with the packed moepp in a temporary folder. Each case must generate the text that the checkout
// generates. Prints PASS, SKIP with the reason, or FAIL for each.
//
//   node test/frameworks/run.mjs [--only=<part of a name>] [tarballs of moepp and moepp-books-7m]
import { cpSync, mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { root } from '../../scripts/build-native.mjs'
import { npmProgram, tarballsToTest } from '../../scripts/pack.mjs'
import { bundlers } from './bundlers.mjs'
import { next } from './next.mjs'
import { Skip, succeed } from './process.mjs'
import { runtimes } from './runtimes.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const args = process.argv.slice(2)
const only = args.find(arg => arg.startsWith('--only='))?.slice('--only='.length) ?? ''
const tarballs = tarballsToTest(args.filter(arg => !arg.startsWith('--')))

const scratch = realpathSync(mkdtempSync(join(tmpdir(), 'moepp-frameworks-')))
const counts = { PASS: 0, SKIP: 0, FAIL: 0 }
try {
  const context = { project: install(), scratch, apps: join(here, 'apps'), expected: reference() }
  for (const [name, work] of [...runtimes, ...bundlers, ...next])
    if (name.includes(only)) await report(name, () => work(context))
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
console.log(`${counts.PASS} passed, ${counts.FAIL} failed, ${counts.SKIP} skipped`)
process.exitCode = counts.FAIL > 0 || counts.PASS === 0 ? 1 : 0

/** A project with everything installed, and no install script run. */
function install() {
  const project = join(scratch, 'project')
  cpSync(here, project, { recursive: true, filter: path => !path.includes('apps') })
  const npm = (...words) =>
    succeed([process.execPath, npmProgram(), ...words, '--ignore-scripts', '--no-audit'], project)
  console.log('moepp: installing frameworks')
  npm('ci', '--no-fund', '--loglevel=error')
  npm('install', '--no-save', '--no-fund', '--loglevel=error', tarballs.moepp, tarballs.model)
  return project
}

/** The text by the checkout's own build and its own files. */
function reference() {
  const options = ['--max-new-tokens', '48', '--temperature', '0.8', '--seed', '7']
  const model = join(root, 'models', 'books-7m')
  const command = [
    join(root, 'dist', 'cli', 'main.js'),
    'generate',
    'The old man',
    '--model',
    model,
  ]
  const { stdout } = succeed([process.execPath, ...command, ...options], root)
  if (stdout.length < 40) throw new Error(`the checkout generates ${JSON.stringify(stdout)}`)
  return stdout.slice(0, -1)
}

async function report(name, work) {
  const start = performance.now()
  const seconds = () => `${((performance.now() - start) / 1000).toFixed(1)} s`
  try {
    await work()
    counts.PASS++
    console.log(`PASS ${name} (${seconds()})`)
  } catch (error) {
    const skipped = error instanceof Skip
    counts[skipped ? 'SKIP' : 'FAIL']++
    console.log(`${skipped ? 'SKIP' : 'FAIL'} ${name}: ${skipped ? error.message : error.stack}`)
  }
}
