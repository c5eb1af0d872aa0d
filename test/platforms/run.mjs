// moepp on the platforms that this machine can build for and emulate. Each has five parts: the
// binary, its native tests, those TypeScript tests that start no process, Ctrl-C, and the packed
// package. Prints PASS, SKIP with the reason, or FAIL for each part.
//
//   npm run test:platforms [-- linux-arm64 win32-x64] [--no-native=win32-x64]
//
// It wants a compiler and two Nodes, 570 MB:
//
//   npm ci --force --ignore-scripts --prefix test/platforms
//
// and from Debian qemu-user with libstdc++6-arm64-cross and libatomic1-arm64-cross, and wine.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { root } from '../../scripts/build-native.mjs'
import { npmProgram, pack } from '../../scripts/pack.mjs'
import {
  CROSS_PLATFORMS,
  hasCompiler,
  prebuildFolder,
  prebuildPath,
} from '../../scripts/platforms.mjs'
import { totalsOf } from '../../scripts/tap-output.mjs'
import { compiled, compileTests } from '../../scripts/typescript.mjs'
import { FILE_TESTS, LINK_TESTS, LONG_NATIVE_TESTS, TESTS } from './tests.mjs'

const SECONDS = 1200
const { values, positionals: named } = parseArgs({
  allowPositionals: true,
  options: { 'no-native': { type: 'string' } },
})
const platforms = named.length > 0 ? named : Object.keys(CROSS_PLATFORMS)
/** Not the checkout's prebuilds/: other tests rely on there being none. */
const out = join(root, 'build', 'platforms')
const scratch = realpathSync(mkdtempSync(join(tmpdir(), 'moepp-platforms-')))
const counts = { PASS: 0, SKIP: 0, FAIL: 0 }
const environment = {
  ...process.env,
  // Wine's own folder of drives and settings; its messages are not ours.
  WINEPREFIX: join(scratch, 'wine'),
  WINEDEBUG: '-all',
  WINEARCH: 'win64',
  TAP_TIMEOUT: String(SECONDS),
}

class Skip extends Error {}

async function report(name, work) {
  const start = performance.now()
  const say = (result, why = '') => {
    counts[result]++
    console.log(`${result} ${name}, ${((performance.now() - start) / 1000).toFixed(0)} s${why}`)
  }
  try {
    const words = await work()
    say('PASS', words ? `; ${words}` : '')
  } catch (error) {
    say(error instanceof Skip ? 'SKIP' : 'FAIL', `: ${error.message}`)
  }
}

/** The output of a command that succeeds within SECONDS. */
function succeed([command, ...args], options = {}) {
  const ended = spawnSync(command, args, {
    cwd: root,
    env: environment,
    encoding: 'utf8',
    timeout: 1000 * SECONDS,
    maxBuffer: 1e8,
    stdio: ['ignore', 'pipe', 'pipe'],
    ...options,
  })
  if (ended.status === 0) return ended.stdout
  const said = `${ended.error ?? ''}${ended.stdout}${ended.stderr}`
  const words = said.replaceAll(/^ok .*\n/gm, '').slice(-4000)
  throw new Error(`${command} ${args.join(' ')}: ${ended.status ?? ended.signal}\n${words}`)
}

function runnerOf(platform) {
  const { runner } = CROSS_PLATFORMS[platform]
  if (runner === undefined) throw new Skip('nothing here runs it')
  if (runner[0] && spawnSync(runner[0], ['--version'], { env: environment }).error)
    throw new Skip(`${runner[0]} is not installed`)
  return runner
}

const [output, errors] = ['output', 'errors'].map(name => join(scratch, name))
const drive = path => `Z:${path.replaceAll('/', '\\')}`

/** A command line of a Node of the platform. It prints to the files `output` and `errors`. */
function nodeCommand(platform, args) {
  const { node } = CROSS_PLATFORMS[platform]
  if (node === undefined) throw new Skip('there is no Node for it here')
  const runner = runnerOf(platform)
  if (runner[0] !== 'wine')
    return ['sh', '-c', `exec "$@" > ${output} 2> ${errors}`, 'sh', ...runner, node, ...args]
  // Node on Windows does not take the pipes and files that Wine inherits. It takes cmd's.
  const script = join(scratch, 'node.cmd')
  const [to, errorsTo] = [output, errors].map(drive)
  writeFileSync(script, `@"${drive(node)}" %* > "${to}" 2> "${errorsTo}"\r\n`)
  return [...runner, 'cmd', '/c', drive(script), ...args]
}

/** The output of a Node of the platform. */
function runNode(platform, args, { env = {}, cwd = root } = {}) {
  const command = nodeCommand(platform, args)
  try {
    succeed(command, { cwd, env: { ...environment, ...env } })
  } catch (error) {
    const said = [output, errors].filter(path => existsSync(path))
    const words = said.map(path => readFileSync(path, 'utf8')).join('')
    throw new Error(`${error.message}${words.slice(-4000)}`)
  }
  return readFileSync(output, 'utf8')
}

function build(platform) {
  rmSync(prebuildPath(platform, out), { force: true })
  if (!hasCompiler()) throw new Skip('its compiler is not installed')
  return succeed([
    process.execPath,
    'scripts/prebuild.mjs',
    `--platform=${platform}`,
    `--out=${out}`,
  ])
    .trim()
    .split('\n')
    .at(-1)
}

function nativeTests(platform) {
  if (platform === values['no-native']) throw new Skip('--no-native')
  const folder = join(prebuildFolder(platform), 'cmake')
  const jobs = String(availableParallelism())
  succeed(['cmake', '--build', folder, '--parallel', jobs, '--target', 'moepp-native'])
  const program = join(folder, `moepp-native${platform.startsWith('win32') ? '.exe' : ''}`)
  const run = (...args) =>
    succeed([...runnerOf(platform), program, 'test', '--cpu', ...args]).trim()
  if (!platform.includes('arm64')) return run().split('\n').at(-1)
  const wanted = run('--list')
    .split('\n')
    .filter(name => !LONG_NATIVE_TESTS.includes(name))
  for (const name of wanted) run('--exact', name)
  return `${wanted.length} passed; not run, too long: ${LONG_NATIVE_TESTS.join(', ')}`
}

function typescriptTests(platform) {
  let passed = 0
  let skipped = 0
  const left = platform.startsWith('win32') ? LINK_TESTS : FILE_TESTS
  for (const file of TESTS.filter(each => !left.includes(each))) {
    const text = runNode(platform, [compiled(join(root, file))], {
      env: { MOEPP_BINDING: prebuildPath(platform, out) },
    })
    const totals = totalsOf(text)
    if (totals === undefined || totals.passed === 0) throw new Error(`${file}: no totals\n${text}`)
    passed += totals.passed
    skipped += totals.skipped
  }
  const files = TESTS.length - left.length
  return `${files} files: ${passed} passed, ${skipped} skipped; not run: ${left.join(', ')}`
}

/** The process of a Node whose arguments have this one. */
function processOf(platform, argument) {
  const node = basename(CROSS_PLATFORMS[platform].node)
  const found = readdirSync('/proc').filter(pid => {
    if (!/^\d+$/.test(pid) || !existsSync(`/proc/${pid}/cmdline`)) return false
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
    return words.includes(argument) && words.some(word => /[^\\/]+$/.exec(word)?.[0] === node)
  })
  if (found.length !== 1) throw new Error(`${found.length} processes of ${node} with ${argument}`)
  return Number(found[0])
}

/** Ctrl-C ends a text that does not end: what there is stays, and the exit code says it. */
async function interrupt(platform) {
  const endless = ['generate', '--ignore-eos', '--max-new-tokens', '2000', '--isa', 'scalar']
  const model = ['--model', 'models/books-7m']
  const [command, ...args] = nodeCommand(platform, ['dist/cli/main.js', ...endless, ...model])
  rmSync(output, { force: true })
  const env = { ...environment, MOEPP_BINDING: prebuildPath(platform, out) }
  const child = spawn(command, args, { cwd: root, env, stdio: 'ignore', timeout: 1000 * SECONDS })
  const ended = once(child, 'close')
  const runs = () => child.exitCode === null && child.signalCode === null
  while (runs() && !(existsSync(output) && statSync(output).size > 0)) await sleep(100)
  if (runs()) process.kill(processOf(platform, '--ignore-eos'), 'SIGINT')
  const [code] = await ended
  const text = readFileSync(output, 'utf8')
  if (code !== 130 || text.length < 2)
    throw new Error(`code ${code}, ${text.length} letters\n${readFileSync(errors, 'utf8')}`)
  return `after ${text.length} letters`
}

/** The installed package generates the text that the checkout's own build generates. */
function installedPackage(platform, project, expected) {
  const cli = join(project, 'node_modules', 'moepp', 'dist', 'cli', 'main.js')
  const doctor = runNode(platform, [cli, 'doctor', '--json'], { cwd: project })
  const { addon } = JSON.parse(doctor)
  if (addon?.origin !== 'prebuild') throw new Error(`doctor: ${doctor}`)
  const model = ['--model', 'npm:moepp-books-7m']
  const text = runNode(platform, [cli, ...GENERATE, ...model], { cwd: project })
  if (text !== expected) throw new Error(`the text is ${text}`)
}

const GENERATE = ['generate', 'The old man', '--max-new-tokens', '24', '--isa', 'scalar']

/** A project with the packages; everything in it is the same on all platforms but the binaries. */
function install() {
  const project = join(scratch, 'project')
  mkdirSync(project)
  const { moepp, model } = pack(scratch)
  const npm = [process.execPath, npmProgram(), 'install', '--ignore-scripts', '--no-audit']
  succeed([...npm, '--no-fund', '--loglevel=error', moepp, model], { cwd: project })
  const prebuilds = join('node_modules', 'moepp', 'prebuilds')
  cpSync(join(out, 'prebuilds'), join(project, prebuilds), { recursive: true })
  return project
}

try {
  await compileTests()
  for (const platform of platforms) await report(`${platform}: the binary`, () => build(platform))
  const built = platforms.filter(platform => existsSync(prebuildPath(platform, out)))
  for (const platform of built)
    await report(`${platform}: native tests`, () => nativeTests(platform))
  for (const platform of built)
    await report(`${platform}: TypeScript tests`, () => typescriptTests(platform))
  for (const platform of built) await report(`${platform}: Ctrl-C`, () => interrupt(platform))
  const model = join(root, 'models', 'books-7m')
  const expected = succeed([process.execPath, 'dist/cli/main.js', ...GENERATE, '--model', model])
  const project = install()
  for (const platform of built)
    await report(`${platform}: the installed package`, () =>
      installedPackage(platform, project, expected),
    )
} finally {
  spawnSync('wineserver', ['-k'], { env: environment })
  rmSync(scratch, { recursive: true, force: true, maxRetries: 3 })
}
console.log(`${counts.PASS} passed, ${counts.FAIL} failed, ${counts.SKIP} skipped`)
process.exitCode = counts.FAIL > 0 ? 1 : 0
