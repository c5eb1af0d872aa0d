// Compiles CUDA kernels and compares their machine code with the claims of their sources:
// native/cuda/kernels/README.md has the grammar, and what is refused without a claim.
//
//   node scripts/sass-check.mjs [--arch sm_80,sm_90a] [--list] [--all-opcodes] [--if-nvcc] [files]
//
// Without files: every kernel of native/cuda/kernels and bench/ops/cuda; without --arch: every
// architecture that is built (cmake/cuda-architectures.cmake). Prints one line per source. --list
// adds one per kernel and architecture: registers, spills, instructions, and those of the loop in
// which it is likely to spend its time. With --if-nvcc, a machine without nvcc is no failure.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { readClaims, refuteClaims, shortName } from './sass/claims.mjs'
import { compileAll } from './sass/compile.mjs'

const root = resolve(import.meta.dirname, '..')

/** The terms that hold for every kernel that CudaQueue launches since sm_90, whatever it claims. */
function impliedTerms(source, architecture) {
  const launched = source.startsWith(join(root, 'native', 'cuda', 'kernels'))
  return launched && Number.parseInt(architecture.slice(3), 10) >= 90 ? ['ACQBULK', 'PREEXIT'] : []
}

function describeKernel({ name, usage, counts, order, loop }, architecture, allOpcodes) {
  const describe = numbers =>
    [...numbers]
      .filter(([opcode]) => allOpcodes || !opcode.startsWith('0x'))
      .sort((a, b) => b[1] - a[1])
      .map(([opcode, n]) => `${opcode} ${n}`)
      .join(' ')
  const parts = [
    `${usage.registers} registers, ${usage.spillBytes} bytes spilled, ${usage.stackBytes} stack`,
    describe(counts),
  ]
  if (order?.early.size) parts.push(`early: ${describe(order.early)}`)
  if (loop) parts.push(`hottest loop of ${loop.instructions}: ${describe(loop.counts)}`)
  return `${architecture} ${shortName(name)}: ${parts.join('; ')}`
}

/** One line for a source: {kernels of each architecture}. */
function describeSource(source, perArchitecture) {
  const all = perArchitecture.flat()
  if (all.length === 0) return `${relative(root, source)}: no kernels`
  const registers = all.map(({ usage }) => usage.registers)
  const spilled = all.reduce((n, { usage }) => n + usage.spillBytes, 0)
  const kernels = new Set(all.map(({ name }) => name)).size
  return `${relative(root, source)}: ${kernels} kernels, up to ${Math.max(...registers)} registers, ${spilled} bytes spilled`
}

/** The architectures that a build has: sm_75, ... */
function builtArchitectures() {
  const { status, stdout, stderr, error } = spawnSync(
    'cmake',
    ['-P', join(root, 'cmake', 'cuda-architectures.cmake')],
    { encoding: 'utf8' },
  )
  if (error || status !== 0)
    throw new Error(`cmake does not tell the architectures: ${error?.message ?? stderr}`)
  return stdout
    .trim()
    .split(';')
    .map(name => `sm_${name.replace(/-(real|virtual)$/, '')}`)
}

function parse(argv) {
  const options = {
    architectures: undefined,
    list: false,
    allOpcodes: false,
    ifNvcc: false,
    files: [],
  }
  for (let i = 0; i < argv.length; i++) {
    if (argv[i] === '--arch') options.architectures = argv[++i].split(',')
    else if (argv[i] === '--list') options.list = true
    else if (argv[i] === '--all-opcodes') options.allOpcodes = true
    else if (argv[i] === '--if-nvcc') options.ifNvcc = true
    else options.files.push(resolve(argv[i]))
  }
  if (options.files.length > 0) return options
  for (const folder of ['native/cuda/kernels', 'bench/ops/cuda']) {
    const found = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    const sources = found.filter(file => file.endsWith('.cu')).sort()
    options.files.push(...sources.map(file => join(root, folder, file)))
  }
  return options
}

/** Everything that is wrong with a source on one architecture. */
function refuteResult(source, { architecture, kernels, remarks, error }) {
  if (error) return [error]
  const implied = impliedTerms(source, architecture)
  return [
    ...remarks.map(remark => `${architecture}: ${remark.trim()}`),
    ...refuteClaims(readClaims(source), implied, kernels, architecture),
  ]
}

const options = parse(process.argv.slice(2))
if (spawnSync('nvcc', ['--version']).error) {
  const skipped = 'no CUDA kernel was compiled for GPUs, no machine code was looked at'
  console.log(
    `sass-check: ${options.ifNvcc ? 'SKIPPED' : 'failed'}: nvcc was not found; ${skipped}`,
  )
  process.exit(options.ifNvcc ? 0 : 1)
}
options.architectures ??= builtArchitectures()
const folder = mkdtempSync(join(tmpdir(), 'moepp-sass-'))
const wrong = []
try {
  for (const [source, results] of await compileAll(options, folder)) {
    console.log(
      describeSource(
        source,
        results.map(({ kernels }) => kernels),
      ),
    )
    for (const result of results) {
      for (const text of refuteResult(source, result))
        wrong.push(`${relative(root, source)}: ${text}`)
      if (!options.list) continue
      for (const kernel of result.kernels)
        console.log(`  ${describeKernel(kernel, result.architecture, options.allOpcodes)}`)
    }
  }
} finally {
  rmSync(folder, { recursive: true })
}
for (const text of wrong) console.error(`sass-check: ${text}`)
process.exit(wrong.length === 0 ? 0 : 1)
