/**
 * The first minute in a checkout: scripts/setup.mjs in a small one. Programs of a few lines stand
 * in for npm, CMake and the TypeScript compiler.
 */
import { type SpawnOptions, spawn, spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'
import { root } from '../support/golden.js'

const skip = process.platform === 'win32' && 'the programs that stand in are scripts with #!'
// Plain JavaScript without types; a path that the compiler does not follow.
const load = (name: string) => import(pathToFileURL(join(root, 'scripts', name)).href)
const { isForeignCache } = await load('build-native.mjs')
const { packagesInstalled } = await load('packages.mjs')
const { progressOf, step, tailOf } = await load('step.mjs')

const LOCK = JSON.stringify({
  packages: { '': {}, 'node_modules/a': { version: '1.0.0', integrity: 'sha512-a' } },
})
const ADDON = 'build/Release/moepp.node'

/** A program of the PATH, in JavaScript. */
function program(folder: string, name: string, source: string) {
  const path = join(folder, 'bin', name)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, `#!${process.execPath}\n${source}`)
  chmodSync(path, 0o755)
}

/** Installs what package-lock.json names, and a compiler that makes dist/. */
const NPM = `
const { appendFileSync, cpSync, mkdirSync, writeFileSync } = require('node:fs')
appendFileSync('npm.log', process.argv.slice(2).join(' ') + '\\n')
mkdirSync('node_modules/typescript/bin', { recursive: true })
writeFileSync('node_modules/typescript/bin/tsc', \`
  const { mkdirSync, writeFileSync } = require('node:fs')
  mkdirSync('dist/cli', { recursive: true })
  writeFileSync('dist/index.js', '')
  writeFileSync('dist/cli/main.js', '')
  console.log('noise of tsc')\`)
console.error('noise of npm')
cpSync('package-lock.json', 'node_modules/.package-lock.json')
`

/** A checkout without native code. */
function checkout(t: Test, npm = NPM) {
  const folder = t.testdir({
    'package.json': '{"type":"module"}',
    'package-lock.json': LOCK,
    'tsconfig.json': '{}',
    'CMakeLists.txt': '',
    lib: { 'index.ts': '' },
    node_modules: {},
  })
  cpSync(join(root, 'scripts'), join(folder, 'scripts'), { recursive: true })
  program(folder, 'npm', npm)
  return folder
}

const setupOptions = (folder: string): SpawnOptions => ({
  cwd: folder,
  // Nothing else is on the PATH: no CMake, no compiler.
  env: { PATH: join(folder, 'bin'), HOME: folder },
})
function setup(folder: string, ...args: string[]) {
  const ended = spawnSync(process.execPath, ['scripts/setup.mjs', ...args], {
    ...setupOptions(folder),
    encoding: 'utf8',
  })
  return { status: ended.status, lines: ended.stderr.trimEnd().split('\n'), stdout: ended.stdout }
}
const npmRuns = (folder: string) => {
  const log = join(folder, 'npm.log')
  return existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n').length : 0
}

t.test('each step in plain lines, once', { skip }, async t => {
  const folder = checkout(t)
  const first = setup(folder, '--no-native')
  t.match(first, {
    status: 0,
    stdout: '',
    lines: [
      /^moepp: installing packages$/,
      /^moepp: installed packages in \d+\.\d s$/,
      /^moepp: compiling TypeScript$/,
      /^moepp: compiled TypeScript in \d+\.\d s$/,
    ],
  })
  t.equal(first.lines.length, 4, 'no noise')
  const log = (name: string) => readFileSync(join(folder, 'build', 'logs', `${name}.log`), 'utf8')
  t.equal(log('installing-packages'), 'noise of npm\n')
  t.equal(log('compiling-TypeScript'), 'noise of tsc\n')
  t.match(setup(folder, '--no-native'), { status: 0, lines: ['moepp: up to date'] })
  t.same(setup(folder, '--no-native', '--quiet').lines, [''])
  t.equal(npmRuns(folder), 1)

  writeFileSync(join(folder, 'lib', 'index.ts'), 'export {}')
  t.match(setup(folder, '--no-native').lines, [/compiling/, /compiled/])
  writeFileSync(join(folder, 'package-lock.json'), LOCK.replaceAll('1.0.0', '1.0.1'))
  t.match(setup(folder, '--no-native').lines, [/installing/, /installed/, /compiling/, /compiled/])
  t.equal(npmRuns(folder), 2)
})

t.test('packages that npm ci installed before are kept', { skip }, async t => {
  const folder = checkout(t)
  spawnSync(join(folder, 'bin', 'npm'), ['ci'], { cwd: folder })
  t.match(setup(folder, '--no-native').lines, [/compiling/, /compiled/])
  t.equal(npmRuns(folder), 1)
})

t.test('missing tools are named before npm runs', { skip }, async t => {
  const folder = checkout(t)
  const { status, lines } = setup(folder)
  t.equal(status, 1)
  t.match(lines[0], /building from source needs CMake 3\.24 or newer, a C\+\+17 compiler .*ninja/)
  t.notMatch(lines[0], /npm packages/)
  t.equal(npmRuns(folder), 0)
})

t.test('a step that fails shows its output', { skip }, async t => {
  const folder = checkout(t, `${NPM}; console.log('the reason'); process.exit(3)`)
  t.match(setup(folder, '--no-native'), {
    status: 3,
    lines: [/installing packages$/, /installing packages failed: npm ci/, 'noise of npm'],
  })
  const many = `${'x\n'.repeat(300)}last\n`
  t.equal(tailOf('a\nb\n', 'log'), 'a\nb')
  const tail = tailOf(many, 'log').split('\n')
  t.same([tail.length, tail[199], tail[200]?.includes('log')], [201, 'last', true])
})

t.test('an interrupt ends npm too, and a retry works', { skip }, async t => {
  const stubborn = `
require('node:fs').writeFileSync('pid', String(process.pid))
for (const name of ['SIGINT', 'SIGTERM']) process.on(name, () => {})
setInterval(() => {}, 1000)`
  const folder = checkout(t, stubborn)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const child = spawn(process.execPath, ['scripts/setup.mjs', '--no-native'], {
      ...setupOptions(folder),
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let text = ''
    child.stderr?.on('data', part => {
      text += part
    })
    const path = join(folder, 'pid')
    writeFileSync(path, '')
    while (readFileSync(path, 'utf8') === '') await new Promise(done => setTimeout(done, 20))
    const pid = Number(readFileSync(path, 'utf8'))
    const ended = new Promise(done => child.on('close', done))
    child.kill(signal)
    t.equal(await ended, signal === 'SIGINT' ? 130 : 143)
    t.match(text, /moepp: interrupted while installing packages\n$/)
    t.throws(() => process.kill(pid, 0), { code: 'ESRCH' }, 'npm has ended')
  }
  program(folder, 'npm', NPM)
  t.equal(setup(folder, '--no-native').status, 0)
})

t.test('packagesInstalled', async t => {
  const a = { version: '1.0.0', integrity: 'sha512-a' }
  const b = { version: '2.0.0', integrity: 'sha512-b' }
  const installed = (wanted: object, found: object | string | undefined) => {
    const folder = t.testdir({ node_modules: {} })
    writeFileSync(join(folder, 'package-lock.json'), JSON.stringify({ packages: wanted }))
    const text = typeof found === 'object' ? JSON.stringify({ packages: found }) : found
    if (text !== undefined) writeFileSync(join(folder, 'node_modules/.package-lock.json'), text)
    return packagesInstalled(folder)
  }
  t.equal(installed({ '': {}, a, b }, { a, b }), true)
  t.equal(installed({ '': {}, a, b: { ...b, optional: true } }, { a }), true, 'another platform')
  t.equal(installed({ '': {}, a, b }, { a }), false, 'one is missing')
  t.equal(installed({ '': {}, a }, { a, b }), false, 'one is left over')
  t.equal(installed({ '': {}, a }, { a: { ...a, version: '1.0.1' } }), false)
  t.equal(installed({ '': {}, a }, { a: { ...a, integrity: 'sha512-b' } }), false)
  t.equal(installed({ '': {}, a }, undefined), false, 'none are installed')
  t.equal(installed({ '': {}, a }, '{'), false, 'cut short')
})

t.test('isForeignCache', async t => {
  const here = t.testdir({ build: {}, other: {}, link: t.fixture('symlink', '.') })
  const cache = (home: string) => {
    const text = `# made by hand\nCMAKE_HOME_DIRECTORY:INTERNAL=${home}\nOTHER:STRING=x\n`
    writeFileSync(join(here, 'build', 'CMakeCache.txt'), text)
    return isForeignCache(join(here, 'build'), here)
  }
  t.equal(isForeignCache(join(here, 'build'), here), false, 'no cache yet')
  t.equal(cache(here), false)
  t.equal(cache(join(here, 'link')), false, 'the same folder by another name')
  t.equal(cache(join(here, 'other')), true, 'a copy')
  t.equal(cache(join(here, 'gone')), true, 'renamed')
  writeFileSync(join(here, 'build', 'CMakeCache.txt'), '')
  t.equal(isForeignCache(join(here, 'build'), here), true, 'cut short')
})

t.test('a copied checkout keeps its addon, and builds anew when it must', { skip }, async t => {
  const folder = checkout(t)
  const cmake = `
const { appendFileSync, mkdirSync, writeFileSync } = require('node:fs')
if (process.argv[2] === '--version') console.log('cmake version 3.31.0')
else if (process.argv[2] === '-S') {
  const work = process.argv[process.argv.indexOf('-B') + 1]
  mkdirSync(work + '/Release', { recursive: true })
  writeFileSync(work + '/CMakeCache.txt', 'CMAKE_HOME_DIRECTORY:INTERNAL=' + process.argv[3] + '\\n')
  writeFileSync(work + '/Release/moepp.node', 'addon')
  console.log('-- moepp: a build by hand')
}`
  for (const name of ['cmake', 'c++', 'ninja']) program(folder, name, cmake)
  for (const name of ['node-addon-api', 'node-api-headers'])
    program(folder, `../node_modules/${name}/package.json`, '')
  for (const name of ['node-addon-api', 'node-api-headers'])
    writeFileSync(join(folder, 'node_modules', name, 'package.json'), '{}')
  t.match(setup(folder).lines, [
    /installing/,
    /installed/,
    /building the native addon/,
    /^moepp: built the native addon in \d+\.\d s \(a build by hand\)$/,
  ])
  const copy = join(t.testdirName, 'copy')
  for (const name of ['package.json', 'package-lock.json', 'tsconfig.json', 'CMakeLists.txt'])
    cpSync(join(folder, name), join(copy, name))
  for (const name of ['bin', 'lib', 'scripts', 'node_modules', 'build', 'dist'])
    cpSync(join(folder, name), join(copy, name), { recursive: true })
  t.same(setup(copy).lines, ['moepp: up to date'])
  const stale = join(copy, 'build', 'cmake', 'stale.o')
  writeFileSync(stale, '')
  writeFileSync(join(copy, 'CMakeLists.txt'), '# changed')
  const { status, lines } = setup(copy)
  t.equal(status, 0)
  t.match(lines.join('\n'), /cmake was made in another folder and is built anew/)
  t.notOk(existsSync(stale))
  t.equal(readFileSync(join(copy, ADDON), 'utf8'), 'addon')
  writeFileSync(join(copy, 'CMakeLists.txt'), '# changed again')
  t.notMatch(setup(copy).lines.join('\n'), /anew/)
})

t.test('on a terminal one line is rewritten', async t => {
  let text = ''
  const out = { isTTY: true, write: (part: string) => (text += part) }
  const program = "console.log('noise'); console.log('[1/2] a'); console.log('[2/2] b')"
  type Run = (command: string, args: string[]) => Promise<void>
  await step('testing', 'tested', (run: Run) => run(process.execPath, ['-e', program]), out)
  const lines = text.split('\r\x1b[K')
  for (const line of [/^moepp: testing \d+ s$/, /^moepp: testing \[1\/2\] \d+ s$/])
    t.ok(lines.some(each => line.test(each)))
  t.match(lines.at(-1), /^moepp: tested in \d+\.\d s\n$/)
  t.equal(text.indexOf('\n'), text.length - 1, 'one line')
})

t.test('progressOf', async t => {
  t.equal(progressOf('[3/51] Building CXX object a.o'), '[3/51]')
  t.equal(progressOf('[ 25%] Building CXX object a.o'), '[25 %]')
  t.equal(progressOf('[0/2] Re-checking globbed directories...'), undefined)
  t.equal(progressOf('-- Configuring done'), undefined)
})
