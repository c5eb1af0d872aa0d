// Tells which kernels of the library no test launched: every instantiation that the program of the
// emulated tests contains must have been.
//
//   MOEPP_LAUNCHED_KERNELS=FILE build/cmake/native/test/simt/moepp-simt-test
//   node scripts/kernel-coverage.mjs FILE [program]
//
// The emulation writes FILE when the program ends (native/test/emulator/launches.cc). A kernel is a
// function of moepp::cuda or moepp::bench that a source of native/cuda or bench/ops/cuda marks
// __global__. An instantiation that the program does not contain is not seen: nothing refers to it.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { programs, root } from './build-native.mjs'

/** The names of the kernels that a source defines. */
export function kernelsDefined(source) {
  const definition =
    /__global__\s+void\s+(?:__launch_bounds__\((?:[^()]|\([^()]*\))*\)\s*)?(\w+)\s*\(/g
  const names = [...source.matchAll(definition)].map(match => match[1])
  const marks = source.match(/^[^/\n]*__global__/gm)?.length ?? 0
  if (names.length !== marks) throw new Error(`${marks} __global__, but names: ${names.join(' ')}`)
  return names
}

/** The names of the library's kernels, without namespaces and template arguments. */
function kernelNames() {
  const names = new Set()
  for (const folder of ['native/cuda', 'bench/ops/cuda']) {
    for (const file of readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })) {
      if (!/\.(cu|cuh|h)$/.test(file) || /^simt[\\/]/.test(file)) continue
      for (const name of kernelsDefined(readFileSync(join(root, folder, file), 'utf8')))
        names.add(name)
    }
  }
  return names
}

/** _ZN5moepp4cuda12_GLOBAL__N_16attendI...E -> [moepp, cuda, _GLOBAL__N_1, attend] */
function pathOf(mangled) {
  const names = []
  let rest = /^_?_ZN(.*)$/.exec(mangled)?.[1] ?? ''
  for (let match = /^L?(\d+)/.exec(rest); match; match = /^L?(\d+)/.exec(rest)) {
    const end = match[0].length + Number(match[1])
    names.push(rest.slice(match[0].length, end))
    rest = rest.slice(end)
  }
  return names
}

/** The CPU's kernels have names of the GPU's. */
const isOfLibrary = path => path[0] === 'moepp' && ['cuda', 'bench'].includes(path[1])

/** The program's functions in the order of its symbols: {address, name}. */
function functionsOf(program, ...options) {
  const { status, stdout, stderr, error } = spawnSync('nm', ['-p', ...options, program], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  })
  if (error || status !== 0) throw new Error(`nm ${program}: ${error?.message ?? stderr}`)
  return [...stdout.matchAll(/^([0-9a-f]+) [tTwWuV] (.+)$/gm)].map(([, address, name]) => ({
    address: Number.parseInt(address, 16),
    name,
  }))
}

/**
 * The library's kernels in a program, {address, name} as its symbols have them, and the address of
 * simt::emu::launched. A copy or a part that g++ made of a function (`.part.0`, `.isra.0`) is no
 * kernel of its own.
 */
export function kernelsOf(program) {
  const wanted = kernelNames()
  const readable = functionsOf(program, '-C')
  const kernels = []
  let anchor
  for (const [i, { address, name }] of functionsOf(program).entries()) {
    const path = pathOf(name)
    if (path.join('::') === 'simt::emu::launched' && !name.includes('.')) anchor = address
    if (isOfLibrary(path) && wanted.has(path.at(-1)) && !name.includes('.'))
      kernels.push({ address, name: readable[i].name })
  }
  if (anchor === undefined || kernels.length === 0)
    throw new Error(`${program} has no emulated kernels`)
  return { kernels, anchor }
}

/** The number of kernels in the program, and the names of those that `file` does not list. */
export function unlaunchedKernels(file, program) {
  if (!existsSync(file)) throw new Error(`${file} is missing: ${program} launched no kernel`)
  const { kernels, anchor } = kernelsOf(program)
  const addresses = readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map(line => Number.parseInt(line, 16))
  const launched = new Set(addresses.slice(1).map(address => address - addresses[0] + anchor))
  const unlaunched = kernels.filter(({ address }) => !launched.has(address))
  return { kernels: kernels.length, unlaunched: unlaunched.map(({ name }) => name).sort() }
}

/** Prints the kernels that `file` does not list; true if there are none. */
export function checkCoverage(file, program = programs.simt) {
  const { kernels, unlaunched } = unlaunchedKernels(file, program)
  for (const name of unlaunched)
    console.error(`kernel-coverage: never launched under emulation: ${name}`)
  console.log(`kernel-coverage: ${kernels - unlaunched.length} of ${kernels} kernels were launched`)
  return unlaunched.length === 0
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [file, program] = process.argv.slice(2)
  process.exit(checkCoverage(file, program) ? 0 : 1)
}
