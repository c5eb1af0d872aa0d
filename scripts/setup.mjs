// Brings a checkout to a runnable state: packages, the native addon, the JavaScript. CMake and tsc
// know what is to be done. It uses nothing but Node, because a fresh clone has nothing else.
//
//   node scripts/setup.mjs [--native | --tests | --count | --no-native] [--quiet]
//
//   --native     builds moepp-native, too: the native tests and benches
//   --tests      builds the tests under emulation too
//   --count      builds moepp-simt-count, which counts what CUDA kernels move
//   --no-native  builds nothing native
//   --quiet      says nothing when there is nothing to do
//
// The addon is a CPU build unless MOEPP_CUDA is ON or AUTO (build-native.mjs): the CUDA kernels of
// seven architectures take minutes.
import { chmodSync, existsSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import {
  buildNative,
  cudaChoice,
  defaultWorkFolder,
  discardForeignCache,
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

const asks = option => process.argv.includes(option)
const isNative = !asks('--no-native')
const cuda = cudaChoice('OFF')
const targets = ['moepp']
if (asks('--native') || asks('--tests')) targets.push('moepp-native')
if (asks('--tests')) targets.push('moepp-simt-test', 'moepp_emulated')
if (asks('--tests') || asks('--count')) targets.push('moepp-simt-count')

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

/** Pages, which are bundled for browsers instead, and the parts that they share. */
const pages = ['page', join('server', 'page'), join('routing', 'page')].map(path => join(path, '/'))

/** True if dist/ has the files that tsc makes of lib/, and no others. */
function distIsWhole() {
  const files = folder =>
    existsSync(join(root, folder))
      ? readdirSync(join(root, folder), { recursive: true }).filter(
          file => /\.c?[jt]s(\.map)?$/.test(file) && !pages.some(page => file.startsWith(page)),
        )
      : []
  const made = files('lib').flatMap(file =>
    ['d.$1ts', '$1js', '$1js.map'].map(end => file.replace(/(c?)ts$/, end)),
  )
  return made.sort().join() === files('dist').sort().join()
}

async function compileTypeScript(run) {
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  await run(process.execPath, [tsc, '--build', '--verbose'])
  await run(process.execPath, [join(root, 'scripts', 'page.mjs'), join(root, 'dist')])
  // npm does this for an installed package; in a checkout `npx moepp` runs the file as it is.
  chmodSync(join(root, 'dist', 'cli', 'main.js'), 0o755)
}

// Before npm takes its time.
if (isNative) requireTools()
const isInstalled = packagesInstalled(root)
const done = []
if (!isInstalled)
  done.push(await step('installing packages', 'installed packages', installPackages))
if (isNative) {
  // Before the step's line, which is rewritten.
  discardForeignCache()
  const build = execute => buildNative({ targets, cuda, execute })
  const due = !existsSync(join(defaultWorkFolder, 'CMakeCache.txt'))
  done.push(await step('building the native addon', 'built the native addon', build, { due }))
}
const isWhole = isInstalled && distIsWhole()
// tsc sees neither other packages, nor what was deleted in lib/ or dist/.
if (!isWhole) rmSync(join(root, 'dist'), { recursive: true, force: true })
const compiling = ['compiling TypeScript', 'compiled TypeScript', compileTypeScript]
done.push(await step(...compiling, { due: !isWhole }))
if (!done.includes(true) && !asks('--quiet')) console.error('moepp: up to date')
