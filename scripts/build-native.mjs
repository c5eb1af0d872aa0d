// Builds native/ with CMake: through cmake-js when it is installed (a checkout), else with plain cmake (an install from a
// tarball), and copies the addon to build/Release, where node-gyp-build looks first.
//
//   node scripts/build-native.mjs [--tests] [--debug] [--list-sources]
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readdirSync, renameSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
/** Not build/ itself: node-gyp keeps its own Makefile there. */
const workFolder = join(root, 'build', 'cmake')

/** The native programs: tests on the CPU, tests of the CUDA kernels under emulation, benches. */
export const programs = {
  test: join(workFolder, 'moepp-native-test'),
  simt: join(workFolder, 'native', 'test', 'simt', 'moepp-simt-test'),
  bench: join(workFolder, 'moepp-native-bench'),
}

/** Every file that the native build reads, relative to the root. */
export function nativeSources() {
  const sources = ['CMakeLists.txt']
  for (const folder of ['native', 'bench/ops']) {
    for (const file of readdirSync(join(root, folder), { recursive: true })) {
      if (/(\.(cc|cu|h|cuh|inc)|CMakeLists\.txt)$/.test(file))
        sources.push(`${folder}/${file.replaceAll('\\', '/')}`)
    }
  }
  return sources.sort()
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

/** Ends the process with a hint when a tool that the build needs is missing. */
function requireTools() {
  const missing = []
  if (spawnSync('cmake', ['--version']).error) missing.push('CMake 3.24 or newer')
  if (
    [process.env.CXX, 'c++', 'g++', 'clang++'].every(name => !name || spawnSync(name, ['--version']).error)
  ) {
    missing.push('a C++17 compiler')
  }
  if (spawnSync('ninja', ['--version']).error && spawnSync('make', ['--version']).error)
    missing.push('ninja or make')
  if (missing.length === 0) return
  console.error(`moepp: building from source needs ${missing.join(', ')}.`)
  console.error(
    '  Debian, Ubuntu: apt-get install cmake g++ ninja-build    macOS: xcode-select --install; brew install cmake',
  )
  process.exit(1)
}

function cmakeJs() {
  try {
    const manifest = createRequire(import.meta.url).resolve('cmake-js/package.json')
    return join(dirname(manifest), 'bin', 'cmake-js')
  } catch {
    return undefined
  }
}

export function buildNative({ tests = false, config = 'Release' } = {}) {
  requireTools()
  const definitions = { MOEPP_NATIVE: tests ? 'ON' : 'OFF', MOEPP_SIMT: tests ? 'ON' : 'OFF' }
  const tool = cmakeJs()
  if (tool) {
    const defined = Object.entries(definitions).map(([name, value]) => `--CD${name}=${value}`)
    // `build` alone configures only the first time, and would ignore changed definitions.
    for (const command of ['configure', 'build']) {
      run(process.execPath, [tool, command, '-O', workFolder, '-B', config, ...defined])
    }
  } else {
    const defined = Object.entries(definitions).map(([name, value]) => `-D${name}=${value}`)
    const output = `-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=${join(workFolder, config)}`
    run('cmake', ['-S', root, '-B', workFolder, `-DCMAKE_BUILD_TYPE=${config}`, output, ...defined])
    run('cmake', ['--build', workFolder, '--config', config, '--parallel'])
  }
  const folder = join(root, 'build', config)
  mkdirSync(folder, { recursive: true })
  // By rename, so that a process that has the old file mapped keeps it.
  copyFileSync(join(workFolder, config, 'moepp.node'), join(folder, 'moepp.node.new'))
  renameSync(join(folder, 'moepp.node.new'), join(folder, 'moepp.node'))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv.includes('--list-sources')) {
    console.log(nativeSources().join('\n'))
  } else {
    buildNative({
      tests: process.argv.includes('--tests'),
      config: process.argv.includes('--debug') ? 'Debug' : 'Release',
    })
  }
}
