// Builds native/ with CMake, through cmake-js, and copies the addon to build/Release, where
// node-gyp-build looks first.
//
//   node scripts/build-native.mjs
//
// Environment:
//   MOEPP_CUDA=AUTO|ON|OFF                   AUTO: the CUDA kernels too, if there is an nvcc 13
//   MOEPP_CUDA_ARCHITECTURES="90a-real;120"  some architectures alone
//   MOEPP_WERROR=ON|OFF                      warnings are errors: ON in a checkout
//
// MOEPP_CUDA is AUTO here. `npm run build` and `npm test` default to OFF, because compiling the
// kernels for every architecture takes minutes.
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
/** Not build/ itself: node-gyp keeps its own Makefile there. */
export const defaultWorkFolder = join(root, 'build', 'cmake')
const isWindows = process.platform === 'win32'
/** An installed package has no tests. */
const isCheckout = existsSync(join(root, 'native', 'test'))

/**
 * The native programs: tests and benches; tests of the CUDA kernels under emulation; counts of what
 * the kernels move. Only g++ builds the last.
 */
export const programs = {
  native: join(defaultWorkFolder, 'moepp-native'),
  simt: join(defaultWorkFolder, 'native', 'test', 'simt', 'moepp-simt-test'),
  count: join(defaultWorkFolder, 'native', 'test', 'simt', 'moepp-simt-count'),
}

/** MOEPP_CUDA of the environment, or `fallback`. */
export function cudaChoice(fallback) {
  const choice = (process.env.MOEPP_CUDA || fallback).toUpperCase()
  if (['AUTO', 'ON', 'OFF'].includes(choice)) return choice
  console.error(`moepp: MOEPP_CUDA is ${process.env.MOEPP_CUDA}, expected AUTO, ON or OFF`)
  process.exit(1)
}

/** Runs a command; its failure ends this process with its status. */
export function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options })
  if (result.error) {
    console.error(`moepp: ${command} could not be run: ${result.error.message}`)
    process.exit(1)
  }
  if (result.status !== 0) process.exit(result.status ?? 1)
}

/**
 * Ends the process with a hint when a tool that the build needs is missing. `compiler`: one of this
 * machine's is needed.
 */
export function requireTools({ compiler = true } = {}) {
  const exists = command => !spawnSync(command, ['--version']).error
  const missing = []
  const version = /cmake version (\d+)\.(\d+)/.exec(
    spawnSync('cmake', ['--version'], { encoding: 'utf8' }).stdout,
  )
  if (!version || Number(version[1]) * 1000 + Number(version[2]) < 3024)
    missing.push(`CMake 3.24 or newer${version ? ` (there is ${version[1]}.${version[2]})` : ''}`)
  const compilers = isWindows
    ? ['clang-cl']
    : [process.env.CXX, 'c++', 'g++', 'clang++'].filter(Boolean)
  if (compiler && !compilers.some(exists))
    missing.push(`a C++17 compiler (${compilers.join(', ')})`)
  if (!isWindows && !exists('ninja') && !exists('make')) missing.push('ninja or make')
  if (missing.length === 0) return
  console.error(`moepp: building from source needs ${missing.join(', ')}.`)
  console.error('  Debian, Ubuntu: apt-get install cmake g++ ninja-build')
  console.error('  Alpine: apk add cmake g++ ninja linux-headers')
  console.error('  Fedora: dnf install cmake gcc-c++ ninja-build')
  console.error('  macOS: xcode-select --install; brew install cmake')
  console.error(
    '  Windows: Visual Studio Build Tools with "C++ Clang tools for Windows" and "C++ CMake tools"',
  )
  process.exit(1)
}

/**
 * Removes `workFolder` if its cache of CMake belongs to another checkout than `checkout`, which was
 * copied or renamed, and says so. The cache holds absolute paths, and CMake refuses it then.
 */
export function discardForeignCache(workFolder = defaultWorkFolder, checkout = root) {
  const cache = join(workFolder, 'CMakeCache.txt')
  if (!existsSync(cache)) return
  const home = /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*?)\r?$/m.exec(readFileSync(cache, 'utf8'))?.[1]
  const real = path => realpathSync.native(path)
  if (home !== undefined && existsSync(home) && real(home) === real(checkout)) return
  console.error(`moepp: ${workFolder} was made in another folder and is built anew`)
  rmSync(workFolder, { recursive: true, force: true })
}

/**
 * The command of the cmake-js that package.json pins. A checkout has it; for an installed package
 * npx takes it from npm's registry, once.
 */
function cmakeJs() {
  const require = createRequire(import.meta.url)
  const version = require('../package.json').devDependencies['cmake-js']
  try {
    const found = require.resolve('cmake-js/package.json')
    if (require(found).version === version)
      return [process.execPath, join(dirname(found), 'bin', 'cmake-js')]
  } catch {
    // There is none.
  }
  // There npx is a script of the shell's, which would split arguments at spaces.
  const npxScript = join(dirname(process.execPath), 'node_modules', 'npm', 'bin', 'npx-cli.js')
  const npx = isWindows ? [process.execPath, npxScript] : ['npx']
  return [...npx, '--yes', `cmake-js@${version}`]
}

/**
 * Builds `targets` of CMakeLists.txt, the addon among them, and copies the addon to `outFolder`.
 * `cuda` is AUTO, ON or OFF. `toolchain` are CMake's definitions for another platform
 * (scripts/platforms.mjs), which has no CUDA. `execute` runs each command and is awaited.
 */
export async function buildNative({
  targets = ['moepp'],
  cuda = cudaChoice('AUTO'),
  toolchain = undefined,
  workFolder = defaultWorkFolder,
  outFolder = join(root, 'build', 'Release'),
  execute = run,
} = {}) {
  requireTools({ compiler: toolchain === undefined })
  discardForeignCache(workFolder)
  const tests = isCheckout ? 'ON' : 'OFF'
  const architectures = process.env.MOEPP_CUDA_ARCHITECTURES
  const definitions = [
    ...(toolchain ?? []),
    ...[`-DMOEPP_CUDA=${toolchain ? 'OFF' : cuda}`, `-DMOEPP_NATIVE=${tests}`],
    `-DMOEPP_SIMT=${toolchain ? 'OFF' : tests}`,
    `-DMOEPP_WERROR=${process.env.MOEPP_WERROR || tests}`,
    // Without the variable, a list that was given before does not stay in the cache.
    architectures ? `-DMOEPP_CUDA_ARCHITECTURES=${architectures}` : '-UMOEPP_CUDA_ARCHITECTURES',
  ]
  const [command, ...first] = cmakeJs()
  const options = ['-O', workFolder, '-B', 'Release', ...(isWindows ? ['-t', 'ClangCL'] : [])]
  // `build` alone configures only the first time, and would ignore changed definitions.
  await execute(command, [...first, 'configure', ...options, '--', ...definitions])
  // Without a number, make starts every job at once.
  const jobs = ['-p', String(availableParallelism())]
  await execute(command, [...first, 'build', ...options, ...jobs, '--', '--target', ...targets])
  mkdirSync(outFolder, { recursive: true })
  // By rename, so that a process that has the old file mapped keeps it.
  const product = join(outFolder, 'moepp.node')
  copyFileSync(join(workFolder, 'Release', 'moepp.node'), `${product}.new`)
  renameSync(`${product}.new`, product)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await buildNative()
  console.error(`moepp: built ${join('build', 'Release', 'moepp.node')}`)
}
