// Breaks production code on purpose, one mutation at a time, and expects the tests to fail.
//
//   node scripts/mutations.mjs [parts of names]     without a name, all
//   node scripts/mutations.mjs --list               names them
//   node scripts/mutations.mjs --check              says only what is wrong with the table
//
// test/mutations/*.mjs have the table. A mutation replaces `find`, which its folder or file `in`
// has once, by `replace`. `tests` must notice: a test file, or "cpu PART" and "simt PART" for the
// native tests whose names have that part. All of it happens in a copy, build/mutations/checkout.
// It exits 1 if a mutation survives.
import { spawn, spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { root } from './build-native.mjs'

const work = join(root, 'build', 'mutations')
const checkout = join(work, 'checkout')
const nativeBuild = join(work, 'native')
/** That of the checkout: mutations of TypeScript run on it. */
const addon = join(root, 'build', 'Release', 'moepp.node')
/** Milliseconds of one test command: a mutation may loop for ever. */
const LONGEST_TEST = 600_000

const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
const typeCheck = ['-p', '.', '--noEmit', '--incremental', '--tsBuildInfoFile', '../types.json']

/** Of each kind of test: how it is built, and the command of one test. */
const KINDS = {
  cpu: {
    build: () => buildNative('moepp-native'),
    command: part => [join(nativeBuild, 'moepp-native'), 'test', '--cpu', part],
  },
  simt: {
    build: () => buildNative('moepp-simt-test'),
    command: part => [join(nativeBuild, 'native/test/simt/moepp-simt-test'), part],
  },
  // TypeScript runs as it is. A mutation must have correct types, too.
  typescript: {
    build: () => run(process.execPath, [tsc, ...typeCheck]),
    command: file => [process.execPath, 'scripts/run-tests.mjs', file],
  },
}

function kindOf(test) {
  const [, kind, part] = /^(cpu|simt) (.+)$/.exec(test) ?? [null, 'typescript', test]
  return { ...KINDS[kind], kind, part }
}

class TableError extends Error {}

/** Runs a command that must succeed; its output. */
function run(command, args, cwd = checkout) {
  const options = { cwd, encoding: 'utf8', maxBuffer: 1 << 30 }
  const { status, error, stdout, stderr } = spawnSync(command, args, options)
  if (error) throw error
  if (status === 0) return stdout
  const errors = `${stdout}${stderr}`.split('\n').filter(line => /error|FAILED/.test(line))
  throw new TableError(`${command} failed:\n${errors.slice(0, 20).join('\n')}`)
}

function buildNative(target) {
  if (!existsSync(join(nativeBuild, 'CMakeCache.txt'))) {
    const ninja = spawnSync('ninja', ['--version']).error ? [] : ['-G', 'Ninja']
    // A mutation of the CPU's kernels is one of every instruction set.
    const definitions = ['ADDON=OFF', 'NATIVE=ON', 'SIMT=ON', 'SCALAR=ON'].map(d => `-DMOEPP_${d}`)
    run('cmake', ['-S', checkout, '-B', nativeBuild, ...ninja, ...definitions])
  }
  const jobs = String(availableParallelism())
  run('cmake', ['--build', nativeBuild, '--target', target, '--parallel', jobs])
}

/** Makes the copy what the checkout is now. Files that are alike stay, so that builds are short. */
function copyCheckout() {
  const listed = run('git', ['ls-files', '-co', '--exclude-standard', '-z'], root)
  const wanted = new Set(listed.split('\0').filter(file => file && existsSync(join(root, file))))
  mkdirSync(checkout, { recursive: true })
  for (const entry of readdirSync(checkout, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (entry.isFile() && !wanted.has(path.slice(checkout.length + 1))) rmSync(path)
  }
  for (const file of wanted) {
    const [from, to] = [join(root, file), join(checkout, file)]
    if (existsSync(to) && readFileSync(to).equals(readFileSync(from))) continue
    mkdirSync(dirname(to), { recursive: true })
    copyFileSync(from, to)
  }
  const packages = join(checkout, 'node_modules')
  if (!existsSync(packages)) symlinkSync(join(root, 'node_modules'), packages)
}

async function readTable() {
  const folder = join(root, 'test', 'mutations')
  const rooms = readdirSync(folder).filter(file => file.endsWith('.mjs'))
  const tables = await Promise.all(rooms.map(file => import(join(folder, file))))
  return tables.flatMap(table => table.default)
}

/** The files that have a text, as often as they have it, in a folder or a file. */
function placesOf(text, place) {
  if (!existsSync(place)) return []
  const names = statSync(place).isFile() ? [''] : readdirSync(place, { recursive: true })
  const files = names.map(name => join(place, name)).filter(file => statSync(file).isFile())
  return files.flatMap(file => Array(readFileSync(file, 'utf8').split(text).length - 1).fill(file))
}

/** The mutation with its file, or with what is wrong with it. */
function located(mutation) {
  const { name, find, replace, tests } = mutation
  const places = placesOf(find, mutation.in)
  if (places.length !== 1)
    return { problem: `${name}: ${mutation.in} has its text ${places.length} times, expected once` }
  const missing = tests.find(test => kindOf(test).kind === 'typescript' && !existsSync(test))
  if (missing) return { problem: `${name}: there is no test ${missing}` }
  if (find === replace || tests.length === 0)
    return { problem: `${name}: it changes or expects nothing` }
  return { ...mutation, file: places[0] }
}

/** A failure in the output of tests: a line of a native test, or of a TypeScript test's report. */
const FAILURE = /^(?: {4}\S*\/(\S+:\d+: .{0,70}).*|FAIL (.*)|✖(.*)|(\S+\.ts:\d+: .*))\n/m

function killGroup(leader) {
  try {
    process.kill(-leader, 'SIGKILL')
  } catch {} // it has ended
}

/** Resolves to what went wrong, as soon as there is a sign of it; to undefined if nothing did. */
function watch([program, ...args]) {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, MOEPP_BINDING: addon }
    // The leader of a group, which ends as a whole: a test in an endless loop outlives its parent.
    const child = spawn(program, args, { cwd: checkout, env, detached: true })
    const timer = setTimeout(() => end('no end'), LONGEST_TEST)
    const killAll = () => killGroup(child.pid)
    process.once('exit', killAll)
    let text = ''
    const end = failure => {
      resolve(failure)
      clearTimeout(timer)
      process.off('exit', killAll)
      killAll()
    }
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', part => {
        text += part
        const found = FAILURE.exec(text)?.slice(1).find(Boolean)
        if (found) end(found)
      })
    }
    child.on('error', error => {
      reject(error)
      end()
    })
    child.on('close', (status, signal) => {
      if (/^there is no such test/m.test(text)) reject(new TableError(text.trim()))
      end(status === 0 ? undefined : (signal ?? text.trim().split('\n').at(-1)))
    })
  })
}

/** The test that fails; undefined if all pass. */
async function failureOf(tests) {
  for (const test of tests) {
    const { command, part } = kindOf(test)
    const failure = await watch(command(part))
    if (failure) return `${test}: ${failure}`
  }
  return undefined
}

function build(tests) {
  for (const kind of new Set(tests.map(test => kindOf(test).kind))) KINDS[kind].build()
}

/** The test that catches a mutation, or undefined. */
async function tryMutation({ file, find, replace, tests }) {
  const path = join(checkout, file)
  const whole = readFileSync(path, 'utf8')
  const [before, after] = whole.split(find)
  try {
    writeFileSync(path, before + replace + after)
    build(tests)
    return await failureOf(tests)
  } finally {
    writeFileSync(path, whole)
  }
}

/** True if the tests notice it; prints a line. */
async function isCaught(mutation) {
  const start = performance.now()
  const say = verdict => {
    const seconds = ((performance.now() - start) / 1000).toFixed(0)
    console.log(`${mutation.name}: ${verdict} (${seconds} s)`)
  }
  try {
    const caught = await tryMutation(mutation)
    say(caught ? `caught by ${caught}` : `SURVIVED: ${mutation.breaks}`)
    return caught !== undefined
  } catch (error) {
    if (!(error instanceof TableError)) throw error
    say(`ERROR: ${error.message}`)
    return false
  }
}

async function tryAll(mutations) {
  copyCheckout()
  const tests = [...new Set(mutations.flatMap(mutation => mutation.tests))]
  build(tests)
  const broken = await failureOf(tests)
  if (broken) throw new TableError(`without a mutation a test fails: ${broken}`)
  console.log(`${tests.length} tests pass without a mutation`)
  let caught = 0
  for (const mutation of mutations) caught += Number(await isCaught(mutation))
  console.log(`${caught} of ${mutations.length} mutations are caught`)
  return caught === mutations.length
}

process.chdir(root)
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))
const options = process.argv.slice(2)
const parts = options.filter(option => !option.startsWith('--'))
const all = (await readTable()).map(located)
const problems = all.flatMap(({ problem }) => problem ?? [])
const chosen = all.filter(
  ({ name }) => parts.length === 0 || parts.some(part => name?.includes(part)),
)
if (chosen.length === 0) problems.push(`there is no such mutation: ${parts.join(', ')}`)
if (problems.length > 0) {
  console.error(problems.join('\n'))
  process.exit(1)
}
if (options.includes('--list')) {
  for (const { name, breaks } of chosen) console.log(`${name}: ${breaks}`)
} else if (!options.includes('--check')) {
  try {
    process.exitCode = (await tryAll(chosen)) ? 0 : 1
  } catch (error) {
    if (!(error instanceof TableError)) throw error
    console.error(error.message)
    process.exitCode = 1
  }
}
