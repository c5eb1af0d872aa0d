// Brings a checkout to a runnable state and does only what is not done yet: packages, the native
// addon, the JavaScript. It uses nothing but Node, because a fresh clone has nothing else.
//
//   node scripts/setup.mjs [--bench | --tests | --no-native]
//
// --bench builds moepp-native as well, --tests the tests under emulation too, --no-native nothing
//   native. The addon is a CPU build
// unless MOEPP_CUDA is ON or AUTO (build-native.mjs): the CUDA kernels of seven architectures take
// minutes.
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
  LEVELS,
  levelOf,
  nativeSources,
  programs,
  root,
  run,
} from './build-native.mjs'

const level = levelOf(process.argv)
const native = !process.argv.includes('--no-native')

/**
 * Runs `work` unless the files' contents are those of its last success and all `products` exist.
 * That success was for `request`, or for one of `covering`, which make all that `request` makes.
 */
function unlessCurrent(name, files, products, work, request = '', covering = []) {
  const hash = createHash('sha256')
  for (const file of files) {
    hash.update(file).update('\0')
    hash.update(readFileSync(join(root, file))).update('\0')
  }
  const digest = hash.digest('hex')
  const stamp = join(root, 'build', 'stamps', name)
  const found = existsSync(stamp) ? readFileSync(stamp, 'utf8') : ''
  if (
    products.every(existsSync) &&
    [request, ...covering].some(made => found === `${digest} ${made}`)
  )
    return
  rmSync(stamp, { force: true })
  work()
  mkdirSync(dirname(stamp), { recursive: true })
  writeFileSync(stamp, `${digest} ${request}`)
}

const [major, minor] = process.versions.node.split('.').map(Number)
if (!((major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22)) {
  console.error(`moepp: Node ${process.versions.node} is not supported, 20.19, 22.12 and newer are`)
  process.exit(1)
}

unlessCurrent(
  'packages',
  ['package.json', 'package-lock.json'],
  [join(root, 'node_modules', '.package-lock.json')],
  () => {
    console.error('moepp: installing packages')
    // npm itself may run this script; its settings for that run must not leak into the install.
    const env = { ...process.env }
    for (const key of Object.keys(env))
      if (/^npm_(lifecycle|package|command)/.test(key)) delete env[key]
    run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
      env,
      stdio: ['ignore', 2, 2],
      // There npm is a script of the shell's.
      shell: process.platform === 'win32',
    })
  },
)

const addon = join(root, 'build', 'Release', 'moepp.node')
const nativeFiles = [...nativeSources(), 'scripts/build-native.mjs', 'package.json']
const products = {
  addon: [addon],
  bench: [addon, programs.native],
  tests: [addon, ...Object.values(programs)],
}[level]
const cuda = cudaChoice('OFF')
const device = `cuda=${cuda} ${process.env.MOEPP_CUDA_ARCHITECTURES ?? ''}`
const build = () => {
  console.error('moepp: building the native addon')
  buildNative({ level, cuda })
}
if (native) {
  const levels = LEVELS.slice(LEVELS.indexOf(level))
  const [request, ...covering] = levels.map(each => `${each} ${device}`)
  unlessCurrent('native', nativeFiles, products, build, request, covering)
}

const typescript = readdirSync(join(root, 'lib'), { recursive: true })
  .filter(file => /\.c?ts$/.test(file))
  .map(file => `lib/${file}`)
  .sort()
unlessCurrent(
  'javascript',
  [...typescript, 'tsconfig.json', 'package.json'],
  [join(root, 'dist', 'index.js')],
  () => {
    console.error('moepp: compiling TypeScript')
    rmSync(join(root, 'dist'), { recursive: true, force: true })
    run(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', root])
    // npm does this for an installed package; in a checkout `npx moepp` runs the file as it is.
    chmodSync(join(root, 'dist', 'cli', 'main.js'), 0o755)
  },
)
