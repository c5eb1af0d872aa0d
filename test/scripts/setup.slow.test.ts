/**
 * The first minute in a checkout: scripts/setup.mjs in a small one. A program of a few lines stands
 * in for npm; CMake and the TypeScript compiler are the real ones.
 */
import { type SpawnOptions, spawn, spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'
import { root } from '../support/golden.js'

const skip = process.platform === 'win32' && 'the program that stands in is a script with #!'
// Plain JavaScript without types; a path that the compiler does not follow.
const load = (name: string) => import(pathToFileURL(join(root, 'scripts', name)).href)
const { packagesInstalled } = await load('packages.mjs')
const { progressOf, step, tailOf } = await load('step.mjs')

const LOCK = JSON.stringify({
  packages: { '': {}, 'node_modules/a': { version: '1.0.0', integrity: 'sha512-a' } },
})
/** The addon is a copy of addon.txt. */
const CMAKE = `
cmake_minimum_required(VERSION 3.24)
project(moepp LANGUAGES NONE)
message(STATUS "moepp: a small build")
set(addon \${PROJECT_BINARY_DIR}/Release/moepp.node)
add_custom_command(OUTPUT \${addon} DEPENDS \${PROJECT_SOURCE_DIR}/addon.txt
  COMMAND \${CMAKE_COMMAND} -E copy \${PROJECT_SOURCE_DIR}/addon.txt \${addon})
add_custom_target(moepp DEPENDS \${addon})
`

/** A program of the PATH, in CommonJS whatever the checkout's package.json says. */
function program(folder: string, name: string, source: string) {
  const path = join(folder, 'bin', name)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(join(folder, 'bin', 'package.json'), '{ "type": "commonjs" }')
  writeFileSync(path, `#!${process.execPath}\n${source}`)
  chmodSync(path, 0o755)
}

/** Installs what package-lock.json names, and the compilers. */
const NPM = `
const { appendFileSync, cpSync, mkdirSync, symlinkSync } = require('node:fs')
appendFileSync('npm.log', process.argv.slice(2).join(' ') + '\\n')
mkdirSync('node_modules', { recursive: true })
for (const name of ['typescript', 'esbuild', 'cmake-js']) {
  try {
    symlinkSync(${JSON.stringify(join(root, 'node_modules'))} + '/' + name, 'node_modules/' + name)
  } catch {}
}
console.error('noise of npm')
cpSync('package-lock.json', 'node_modules/.package-lock.json')
`

/** A checkout with little code, and the settings of the real one. */
function checkout(t: Test, npm = NPM) {
  const { compilerOptions } = JSON.parse(readFileSync(join(root, 'tsconfig.json'), 'utf8'))
  const options = { ...compilerOptions, lib: ['es5'], types: [] }
  const folder = t.testdir({
    'package.json': t.fixture('file', readFileSync(join(root, 'package.json'), 'utf8')),
    'package-lock.json': LOCK,
    'tsconfig.json': JSON.stringify({
      compilerOptions: options,
      include: ['lib'],
      exclude: ['lib/page', 'lib/server/page', 'lib/routing/page'],
    }),
    'CMakeLists.txt': CMAKE,
    'addon.txt': 'an addon',
    lib: {
      'index.ts': 'export {}',
      'old.ts': 'export {}',
      cli: { 'main.ts': 'export {}' },
      server: { page: { 'index.html': '', 'page.css': '', 'main.ts': "document.title = 'a'" } },
      routing: { page: { 'index.html': '', 'page.css': '', 'main.ts': '' } },
    },
  })
  cpSync(join(root, 'scripts'), join(folder, 'scripts'), { recursive: true })
  program(folder, 'npm', npm)
  return folder
}

// Nothing else is on the PATH: no CMake, no compiler.
const setupOptions = (folder: string): SpawnOptions => ({
  cwd: folder,
  env: { PATH: join(folder, 'bin'), HOME: folder },
})
function setup(folder: string, args: string[] = ['--no-native'], env?: NodeJS.ProcessEnv) {
  const ended = spawnSync(process.execPath, ['scripts/setup.mjs', ...args], {
    ...setupOptions(folder),
    ...(env === undefined ? {} : { env }),
    encoding: 'utf8',
  })
  return { status: ended.status, lines: ended.stderr.trimEnd().split('\n'), stdout: ended.stdout }
}
/** The whole set-up, with the tools of this machine. */
const build = (folder: string, variables: NodeJS.ProcessEnv = {}) =>
  setup(folder, [], {
    PATH: `${join(folder, 'bin')}:${process.env.PATH}`,
    HOME: folder,
    ...variables,
  })
const npmRuns = (folder: string) => {
  const log = join(folder, 'npm.log')
  return existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n').length : 0
}

const BUILT = [/^moepp: building the native addon$/, /^moepp: built the native addon in \d+\.\d s/]
const COMPILED = [/^moepp: compiling TypeScript$/, /^moepp: compiled TypeScript in \d+\.\d s$/]
const INSTALLED = [/^moepp: installing packages$/, /^moepp: installed packages in \d+\.\d s$/]
const UP_TO_DATE = ['moepp: up to date']

/** All of these lines, and no others. */
function match(t: Test, lines: string[], wanted: readonly (RegExp | string)[], what: string) {
  t.match(lines, wanted, what)
  t.equal(lines.length, wanted.length, `${what}, no noise: ${lines.join('\n')}`)
}

t.test('packages and TypeScript: each step in plain lines, once', { skip }, async t => {
  const folder = checkout(t)
  const path = (...names: string[]) => join(folder, ...names)
  const first = setup(folder)
  t.match(first, { status: 0, stdout: '' })
  match(t, first.lines, [...INSTALLED, ...COMPILED], 'a fresh clone')
  t.equal(readFileSync(path('build', 'logs', 'installing-packages.log'), 'utf8'), 'noise of npm\n')
  t.same(setup(folder, ['--no-native', '--quiet']).lines, [''])
  const script = () => readFileSync(path('dist', 'server', 'page', 'page.js'), 'utf8')
  t.match(script(), 'document.title="a"', 'the page is bundled')
  writeFileSync(path('lib', 'server', 'page', 'main.ts'), "document.title = 'b'")
  match(t, setup(folder).lines, UP_TO_DATE, 'the page takes no time')
  t.match(script(), 'document.title="b"')

  rmSync(path('lib', 'old.ts'))
  match(t, setup(folder).lines, COMPILED, 'a source is gone')
  t.notOk(existsSync(path('dist', 'old.js')), 'and so is what it made')
  rmSync(path('dist', 'index.js.map'))
  match(t, setup(folder).lines, COMPILED, 'a product is gone')
  t.ok(existsSync(path('dist', 'index.js.map')))

  writeFileSync(path('lib', 'index.ts'), "export const wrong: number = ''")
  for (const what of ['a changed source, with an error', 'an error that remains']) {
    const { status, lines } = setup(folder)
    t.not(status, 0, what)
    t.match(
      lines.join('\n'),
      /compiling TypeScript failed[\s\S]*index\.ts\(1,14\): error TS2322/,
      what,
    )
  }
  writeFileSync(path('lib', 'index.ts'), 'export {}')
  writeFileSync(path('package-lock.json'), LOCK.replaceAll('1.0.0', '1.0.1'))
  match(t, setup(folder).lines, [...INSTALLED, ...COMPILED], 'other packages')
  t.equal(npmRuns(folder), 2)
})

t.test('packages that npm ci installed before are kept', { skip }, async t => {
  const folder = checkout(t)
  spawnSync(join(folder, 'bin', 'npm'), ['ci'], { cwd: folder })
  match(t, setup(folder).lines, COMPILED, 'TypeScript alone')
  t.equal(npmRuns(folder), 1)
})

t.test('missing tools are named before npm runs', { skip }, async t => {
  const folder = checkout(t)
  const { status, lines } = setup(folder, [])
  t.equal(status, 1)
  t.match(lines[0], /building from source needs CMake 3\.24 or newer, a C\+\+17 compiler .*ninja/)
  t.equal(npmRuns(folder), 0)
})

t.test('a step that fails shows its output', { skip }, async t => {
  const folder = checkout(t, `${NPM}; console.log('the reason'); process.exit(3)`)
  t.match(setup(folder), {
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
  t.equal(setup(folder).status, 0)
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

t.test('the addon: built where it is due, and anew in a copied checkout', { skip }, async t => {
  const folder = checkout(t)
  const product = join('build', 'Release', 'moepp.node')
  const addon = (of = folder) => readFileSync(join(of, product), 'utf8')
  match(t, build(folder).lines, [...INSTALLED, ...BUILT, ...COMPILED], 'a fresh clone')
  match(t, build(folder).lines, UP_TO_DATE, 'nothing to do')
  const cache = () => readFileSync(join(folder, 'build', 'cmake', 'CMakeCache.txt'), 'utf8')
  writeFileSync(join(folder, 'addon.txt'), 'a changed addon')
  const choice = { MOEPP_CUDA: 'auto', MOEPP_CUDA_ARCHITECTURES: '75-real;90' }
  match(t, build(folder, choice).lines, BUILT, 'a source has changed')
  t.equal(addon(), 'a changed addon')
  t.match(cache(), /^MOEPP_CUDA:\w+=AUTO$[\s\S]*^MOEPP_CUDA_ARCHITECTURES:\w+=75-real;90$/m)
  rmSync(join(folder, product))
  match(t, build(folder).lines, UP_TO_DATE, 'the copy is gone, and so are the variables')
  t.equal(addon(), 'a changed addon')
  t.match(cache(), /^MOEPP_CUDA:\w+=OFF$/m)
  t.notMatch(cache(), /MOEPP_CUDA_ARCHITECTURES/)
  rmSync(join(folder, 'build', 'cmake', 'Release', 'moepp.node'))
  match(t, build(folder).lines, BUILT, 'a product is gone')

  const moved = join(t.testdirName, '..', 'moved checkout')
  t.teardown(() => rmSync(moved, { recursive: true, force: true }))
  renameSync(folder, moved)
  const { status, lines } = build(moved)
  t.equal(status, 0)
  match(t, lines, [/cmake was made in another folder and is built anew/, ...BUILT], 'renamed')
  writeFileSync(join(moved, 'addon.txt'), 'a moved addon')
  match(t, build(moved).lines, BUILT, 'once')
  t.equal(addon(moved), 'a moved addon')
  writeFileSync(join(moved, 'CMakeLists.txt'), 'message(FATAL_ERROR "the reason")')
  const failed = build(moved)
  t.not(failed.status, 0)
  t.match(failed.lines.join('\n'), /building the native addon failed: [\s\S]*the reason/)
})

t.test('on a terminal one line is rewritten', async t => {
  let text = ''
  const out = { isTTY: true, write: (part: string) => (text += part) }
  const program = "console.log('noise'); console.log('[1/2] a'); console.log('[2/2] b')"
  type Run = (command: string, args: string[]) => Promise<void>
  await step('testing', 'tested', (run: Run) => run(process.execPath, ['-e', program]), { out })
  const lines = text.split('\r\x1b[K')
  for (const line of [/^moepp: testing \d+ s$/, /^moepp: testing \[1\/2\] \d+ s$/])
    t.ok(lines.some(each => line.test(each)))
  t.match(lines.at(-1), /^moepp: tested in \d+\.\d s\n$/)
  t.equal(text.indexOf('\n'), text.length - 1, 'one line')
})

t.test('progressOf', async t => {
  t.equal(progressOf('[3/51] Building CXX object a.o'), '[3/51] ')
  t.equal(progressOf('[ 25%] Building CXX object a.o'), '[25 %] ')
  t.equal(progressOf('[100%] Built target moepp'), undefined)
  t.equal(progressOf('[0/2] Re-checking globbed directories...'), undefined)
  t.equal(progressOf("[1:02:03 PM] - Building project '/a/tsconfig.json'..."), '')
  t.equal(progressOf('-- Configuring done'), undefined)
})
