// Brings a checkout to a runnable state and does only what is not done yet: packages, the native
// addon, the JavaScript. It uses nothing but Node, because a fresh clone has nothing else.
//
//   node scripts/setup.mjs [--bench | --tests | --no-native] [--quiet]
//
//   --bench      builds moepp-native as well
//   --tests      builds the tests under emulation too
//   --no-native  builds nothing native
//   --quiet      says nothing when there is nothing to do
//
// The addon is a CPU build unless MOEPP_CUDA is ON or AUTO (build-native.mjs): the CUDA kernels of
// seven architectures take minutes.
import { createHash } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import {
  buildNative,
  cudaChoice,
  discardForeignCache,
  LEVELS,
  levelOf,
  nativeSources,
  programs,
  requireTools,
  root,
} from './build-native.mjs'
import { installedLock, packagesInstalled } from './packages.mjs'
import { step } from './step.mjs'

const [major, minor] = process.versions.node.split('.').map(Number)
if (!((major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22)) {
  console.error(`moepp: Node ${process.versions.node} is not supported, 20.19, 22.12 and newer are`)
  process.exit(1)
}

/**
 * A part of the build that is current when the files' contents are those of its last success and
 * all `products` exist. That success was for `request`, or for one of `covering`, which make all
 * that `request` makes.
 */
class Part {
  #stamp
  #digest
  #request
  current

  constructor(name, files, products, request = '', covering = []) {
    const hash = createHash('sha256')
    for (const file of files) {
      hash.update(file).update('\0')
      hash.update(readFileSync(join(root, file))).update('\0')
    }
    this.#digest = hash.digest('hex')
    this.#request = request
    this.#stamp = join(root, 'build', 'stamps', name)
    const found = existsSync(this.#stamp) ? readFileSync(this.#stamp, 'utf8') : ''
    const made = [request, ...covering].some(each => found === `${this.#digest} ${each}`)
    this.current = made && products.every(existsSync)
  }

  async make(doing, done, work) {
    rmSync(this.#stamp, { force: true })
    await step(doing, done, work)
    mkdirSync(dirname(this.#stamp), { recursive: true })
    writeFileSync(this.#stamp, `${this.#digest} ${this.#request}`)
  }
}

const level = levelOf(process.argv)
const cuda = cudaChoice('OFF')

function nativePart() {
  const addon = join(root, 'build', 'Release', 'moepp.node')
  const products = {
    addon: [addon],
    bench: [addon, programs.native],
    tests: [addon, ...Object.values(programs)],
  }[level]
  const device = `cuda=${cuda} ${process.env.MOEPP_CUDA_ARCHITECTURES ?? ''}`
  const levels = LEVELS.slice(LEVELS.indexOf(level))
  const [request, ...covering] = levels.map(each => `${each} ${device}`)
  const files = [...nativeSources(), 'scripts/build-native.mjs', 'package.json']
  return new Part('native', files, products, request, covering)
}

function javascriptPart() {
  const typescript = readdirSync(join(root, 'lib'), { recursive: true })
    .filter(file => /\.c?ts$/.test(file))
    .map(file => `lib/${file}`)
    .sort()
  const files = [...typescript, 'tsconfig.json', 'package.json', 'package-lock.json']
  return new Part('javascript', files, [join(root, 'dist', 'index.js')])
}

async function installPackages(run) {
  // An installation that is cut short from here on leaves nothing that looks whole.
  rmSync(installedLock(root), { force: true })
  // npm itself may run this script; its settings for that run must not leak into the install.
  const env = { ...process.env }
  for (const key of Object.keys(env))
    if (/^npm_(lifecycle|package|command)/.test(key)) delete env[key]
  // The build needs the development packages, whatever NODE_ENV is.
  await run('npm', ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'], {
    env,
    // There npm is a script of the shell's.
    shell: process.platform === 'win32',
  })
}

async function compileTypeScript(run) {
  rmSync(join(root, 'dist'), { recursive: true, force: true })
  await run(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', root])
  // npm does this for an installed package; in a checkout `npx moepp` runs the file as it is.
  chmodSync(join(root, 'dist', 'cli', 'main.js'), 0o755)
}

const native = process.argv.includes('--no-native') ? { current: true } : nativePart()
const javascript = javascriptPart()
const installed = packagesInstalled(root)
// Before npm takes its time.
if (!native.current) requireTools({ packages: false })
if (!installed) await step('installing packages', 'installed packages', installPackages)
if (!native.current) {
  // Before the step's line, which is rewritten.
  discardForeignCache()
  await native.make('building the native addon', 'built the native addon', execute =>
    buildNative({ level, cuda, execute }),
  )
}
if (!javascript.current)
  await javascript.make('compiling TypeScript', 'compiled TypeScript', compileTypeScript)
if (installed && native.current && javascript.current && !process.argv.includes('--quiet'))
  console.error('moepp: up to date')
