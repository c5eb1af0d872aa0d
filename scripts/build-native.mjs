// Builds native/ with CMake: through cmake-js in a checkout, with plain cmake in an installed
// package. It copies the addon to build/Release, where node-gyp-build looks first.
//
//   node scripts/build-native.mjs [--bench | --tests] [--debug] [--list-sources]
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
  readdirSync,
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
const defaultWorkFolder = join(root, 'build', 'cmake')
/** An installed package has no tests. */
const isCheckout = existsSync(join(root, 'native', 'test'))
const { resolve: resolvePackage } = createRequire(import.meta.url)

/**
 * Levels of a build, each with all before it: the addon; the native program; tests of the CUDA
 * kernels under emulation.
 */
export const LEVELS = ['addon', 'bench', 'tests']

/** The native programs: tests and benches; tests of the CUDA kernels under emulation. */
export const programs = {
  native: join(defaultWorkFolder, 'moepp-native'),
  simt: join(defaultWorkFolder, 'native', 'test', 'simt', 'moepp-simt-test'),
}

/** Every file that the native build reads, relative to the root. */
export function nativeSources() {
  // A package has no bench/.
  const sources = ['CMakeLists.txt', 'bench/main.cc'].filter(file => existsSync(join(root, file)))
  for (const folder of ['cmake', 'native', 'bench/ops']) {
    if (!existsSync(join(root, folder))) continue
    for (const file of readdirSync(join(root, folder), { recursive: true })) {
      if (/(\.(cc|cu|h|cuh|inc|cmake|map)|CMakeLists\.txt)$/.test(file))
        sources.push(`${folder}/${file.replaceAll('\\', '/')}`)
    }
  }
  return sources.sort()
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

const exists = command => !spawnSync(command, ['--version']).error

function isInstalled(name) {
  try {
    resolvePackage(`${name}/package.json`)
    return true
  } catch {
    return false
  }
}

/**
 * Ends the process with a hint when something that the build needs is missing. `packages`: the npm
 * packages too, which a fresh checkout does not have yet.
 */
export function requireTools({ packages }) {
  const missing = []
  const version = /cmake version (\d+)\.(\d+)/.exec(
    spawnSync('cmake', ['--version'], { encoding: 'utf8' }).stdout,
  )
  if (!version || Number(version[1]) * 1000 + Number(version[2]) < 3024)
    missing.push(`CMake 3.24 or newer${version ? ` (there is ${version[1]}.${version[2]})` : ''}`)
  const compilers =
    process.platform === 'win32'
      ? ['clang-cl']
      : [process.env.CXX, 'c++', 'g++', 'clang++'].filter(Boolean)
  if (!compilers.some(exists)) missing.push(`a C++17 compiler (${compilers.join(', ')})`)
  if (!exists('ninja') && !exists('make') && process.platform !== 'win32')
    missing.push('ninja or make')
  const headers = packages
    ? ['node-addon-api', 'node-api-headers'].filter(name => !isInstalled(name))
    : []
  if (headers.length > 0) missing.push(`the npm packages ${headers.join(' and ')}`)
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
 * The path of cmake-js, in a checkout that has it. That of an installed package's neighbour is not
 * ours.
 */
function cmakeJs() {
  return isCheckout && isInstalled('cmake-js')
    ? join(dirname(resolvePackage('cmake-js/package.json')), 'bin', 'cmake-js')
    : undefined
}

/**
 * True if CMake's cache in `workFolder` belongs to another folder, because the checkout was copied
 * or renamed. The cache holds absolute paths, and CMake refuses it then.
 */
export function isForeignCache(workFolder, checkout = root) {
  const cache = join(workFolder, 'CMakeCache.txt')
  if (!existsSync(cache)) return false
  const home = /^CMAKE_HOME_DIRECTORY:INTERNAL=(.*?)\r?$/m.exec(readFileSync(cache, 'utf8'))?.[1]
  if (home === undefined || !existsSync(home)) return true
  return realpathSync.native(home) !== realpathSync.native(checkout)
}

/** Removes a build folder that another checkout made, and says so in a line. */
export function discardForeignCache(workFolder = defaultWorkFolder) {
  if (!isForeignCache(workFolder)) return
  console.error(`moepp: ${workFolder} was made in another folder and is built anew`)
  rmSync(workFolder, { recursive: true, force: true })
}

async function runCmake(definitions, config, workFolder, run) {
  const tool = cmakeJs()
  // Without a number, make starts every job at once.
  const jobs = String(availableParallelism())
  if (tool) {
    const defined = Object.entries(definitions).map(([name, value]) => `--CD${name}=${value}`)
    const toolset = process.platform === 'win32' ? ['-T', 'ClangCL'] : []
    const folders = ['-O', workFolder, '-B', config]
    // `build` alone configures only the first time, and would ignore changed definitions.
    for (const command of ['configure', 'build'])
      await run(process.execPath, [tool, command, ...folders, '-p', jobs, ...toolset, ...defined])
    return
  }
  const defined = Object.entries(definitions).map(([name, value]) => `-D${name}=${value}`)
  // Once chosen, a generator cannot change.
  const first = !existsSync(join(workFolder, 'CMakeCache.txt'))
  const generator =
    process.platform === 'win32' ? ['-T', 'ClangCL'] : exists('ninja') ? ['-G', 'Ninja'] : []
  // Visual Studio makes a folder for each configuration by itself.
  const output =
    process.platform === 'win32'
      ? []
      : [`-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=${join(workFolder, config)}`]
  await run('cmake', [
    ...['-S', root, '-B', workFolder, ...(first ? generator : [])],
    ...[`-DCMAKE_BUILD_TYPE=${config}`, ...output, ...defined],
  ])
  await run('cmake', ['--build', workFolder, '--config', config, '--parallel', jobs])
}

/** The level of a command line: --bench, --tests or neither. */
export function levelOf(args) {
  return LEVELS.findLast(level => args.includes(`--${level}`)) ?? 'addon'
}

/**
 * Builds the addon into `outFolder`, and what else `level` has. `cuda` is AUTO, ON or OFF.
 * `execute` runs each command and is awaited; this module's `run` shows the commands' output.
 */
export async function buildNative({
  level = 'addon',
  config = 'Release',
  cuda = cudaChoice('AUTO'),
  workFolder = defaultWorkFolder,
  outFolder = join(root, 'build', config),
  execute = run,
} = {}) {
  requireTools({ packages: true })
  discardForeignCache(workFolder)
  const definitions = {
    MOEPP_NATIVE: level === 'addon' ? 'OFF' : 'ON',
    MOEPP_SIMT: level === 'tests' ? 'ON' : 'OFF',
    MOEPP_WERROR: process.env.MOEPP_WERROR || (isCheckout ? 'ON' : 'OFF'),
    MOEPP_CUDA: cuda,
    // CMake asks this one for headers: the PATH may hold another, or none.
    NODE_EXECUTABLE: process.execPath.replaceAll('\\', '/'),
  }
  const architectures = process.env.MOEPP_CUDA_ARCHITECTURES
  if (architectures) definitions.MOEPP_CUDA_ARCHITECTURES = architectures
  await runCmake(definitions, config, workFolder, execute)
  mkdirSync(outFolder, { recursive: true })
  // By rename, so that a process that has the old file mapped keeps it.
  const target = join(outFolder, 'moepp.node')
  copyFileSync(join(workFolder, config, 'moepp.node'), `${target}.new`)
  renameSync(`${target}.new`, target)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv.includes('--list-sources')) {
    console.log(nativeSources().join('\n'))
  } else {
    const config = process.argv.includes('--debug') ? 'Debug' : 'Release'
    await buildNative({ level: levelOf(process.argv), config })
    console.error(`moepp: built ${join('build', config, 'moepp.node')}`)
  }
}
