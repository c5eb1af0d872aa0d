// Compiles CUDA kernels and looks at the machine code. ptxas tells registers and spills, and the
// instructions are counted from the cubin (no cuobjdump needed). A source makes claims in comments:
//
//   // SASS sm_80,sm_90a gemm_kernel: HMMA LDSM LDGSTS !LDL !STL registers<=128 no-spills
//
// for every kernel whose mangled name holds the word before the colon, on the architectures named
// (or * for all). HMMA>=16 asks for that many. It fails when a source does not compile without
// warnings. It fails when a claim is wrong or names a missing kernel, and when a kernel has no
// claim. Every kernel of native/cuda/kernels must hold the instructions of await_inputs
// (native/cuda/cuda_queue.h) where the architecture has them, since each is launched
// programmatically.
//
//   node scripts/sass-check.mjs [--arch sm_80,sm_90a] [--list] [--all-opcodes] [--if-nvcc] [files]
//
// Without files: every kernel of native/cuda/kernels and bench/ops/cuda; without --arch: every
// architecture that is built. Prints one line per source, with --list one per kernel and
// architecture. With --if-nvcc, a machine without nvcc is no failure.
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')

/**
 * The lower nine bits of an instruction's opcode; the three above them say where the operands come
 * from. NVIDIA does not publish them: each was found by compiling one instruction (Turing to
 * Blackwell agree).
 */
const opcodes = new Map([
  [0x03c, 'HMMA'],
  [0x037, 'IMMA'],
  [0x1f0, 'HGMMA'],
  [0x03b, 'LDSM'],
  [0x1ae, 'LDGSTS'],
  [0x1b4, 'UTMALDG'],
  [0x1b5, 'UTMASTG'],
  [0x1ba, 'UBLKCP'],
  [0x181, 'LDG'],
  [0x186, 'STG'],
  [0x184, 'LDS'],
  [0x188, 'STS'],
  [0x183, 'LDL'],
  [0x187, 'STL'],
  [0x189, 'SHFL'],
  [0x023, 'FFMA'],
  [0x021, 'FADD'],
  [0x020, 'FMUL'],
  [0x108, 'MUFU'],
  [0x11d, 'BAR'],
  [0x1a8, 'ATOMG'],
  [0x02e, 'ACQBULK'], // griddepcontrol.wait
  [0x02d, 'PREEXIT'], // griddepcontrol.launch_dependents
])

/**
 * Opcode counts per kernel of a cubin, an ELF file with one .text section per kernel. Since Volta
 * an instruction is 16 bytes.
 */
function countOpcodes(cubin) {
  const bytes = readFileSync(cubin)
  const headers = Number(bytes.readBigUInt64LE(40))
  const headerSize = bytes.readUInt16LE(58)
  const section = i => {
    const at = headers + i * headerSize
    return {
      name: bytes.readUInt32LE(at),
      offset: Number(bytes.readBigUInt64LE(at + 24)),
      size: Number(bytes.readBigUInt64LE(at + 32)),
    }
  }
  const names = section(bytes.readUInt16LE(62)).offset
  const kernels = new Map()
  for (let i = 0; i < bytes.readUInt16LE(60); i++) {
    const { name, offset, size } = section(i)
    const text = bytes.toString('latin1', names + name, bytes.indexOf(0, names + name))
    if (!text.startsWith('.text.')) continue
    const counts = new Map()
    for (let at = offset; at + 16 <= offset + size; at += 16) {
      const code = bytes.readUInt16LE(at) & 0x1ff
      const opcode = opcodes.get(code) ?? `0x${code.toString(16)}`
      counts.set(opcode, (counts.get(opcode) ?? 0) + 1)
    }
    kernels.set(text.slice('.text.'.length), counts)
  }
  return kernels
}

/** Registers, spills and stack per kernel, from what ptxas -v prints. */
function readUsage(text) {
  const usage = new Map()
  let current
  for (const line of text.split('\n')) {
    const entry = /Compiling entry function '([^']+)'/.exec(line)
    if (entry) {
      current = { registers: 0, spillBytes: 0, stackBytes: 0 }
      usage.set(entry[1], current)
    }
    const stack = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(
      line,
    )
    if (stack && current) {
      current.stackBytes = Number(stack[1])
      current.spillBytes = Number(stack[2]) + Number(stack[3])
    }
    const registers = /Used (\d+) registers/.exec(line)
    if (registers && current) current.registers = Number(registers[1])
  }
  return usage
}

/** The claims of a source: {architectures, kernel, terms}. */
function readClaims(source) {
  const claims = []
  for (const match of readFileSync(source, 'utf8').matchAll(/^\s*\/\/ SASS (\S+) (\S+): (.+)$/gm)) {
    claims.push({
      architectures: match[1].split(','),
      kernel: match[2],
      terms: match[3].trim().split(/\s+/),
    })
  }
  return claims
}

/** The contradiction of a term in words, or undefined if it holds. */
function refute(term, { usage, counts }) {
  if (term === 'no-spills')
    return usage.spillBytes === 0 ? undefined : `${usage.spillBytes} bytes of spills`
  const limit = /^registers(<?=)(\d+)$/.exec(term)
  if (limit) {
    const wanted = Number(limit[2])
    const holds = limit[1] === '=' ? usage.registers === wanted : usage.registers <= wanted
    return holds ? undefined : `${usage.registers} registers, not ${term}`
  }
  const absent = /^!([A-Z]+)$/.exec(term)
  if (absent)
    return counts.has(absent[1])
      ? `${counts.get(absent[1])} ${absent[1]}, expected none`
      : undefined
  const present = /^([A-Z]+)(?:>=(\d+))?$/.exec(term)
  if (!present || ![...opcodes.values()].includes(present[1]))
    return `the claim ${term} is not understood`
  const count = counts.get(present[1]) ?? 0
  return count >= Number(present[2] ?? 1)
    ? undefined
    : `${count} ${present[1]}, expected ${present[2] ?? 'some'}`
}

/** _ZN5moepp4cuda4gemmILi64EEEvPf -> gemm<Li64> */
function shortName(mangled) {
  const names = []
  let rest = mangled.replace(/^_ZN?/, '')
  for (let match = /^L?(\d+)/.exec(rest); match; match = /^L?(\d+)/.exec(rest)) {
    names.push(rest.slice(match[0].length, match[0].length + Number(match[1])))
    rest = rest.slice(match[0].length + Number(match[1]))
  }
  const template = /^I(.+?)EE?v/.exec(rest)
  return (names.at(-1) ?? mangled) + (template ? `<${template[1]}>` : '')
}

/** As native/cuda/CMakeLists.txt compiles them. */
const flags = ['-std=c++17', '-O3', '--fmad=false', '-Werror', 'all-warnings', '-Xptxas', '-v']

/** The status of a command and what it printed. */
function runQuietly(command, args) {
  return new Promise((done, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    let text = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8')
      stream.on('data', part => {
        text += part
      })
    }
    child.on('error', reject)
    child.on('close', status => done({ status, text }))
  })
}

/**
 * The kernels of one source on one architecture: {name, usage, counts}. Throws when it does not
 * compile.
 */
async function compile(source, architecture, folder) {
  const number = architecture.replace('sm_', '')
  const cubin = join(
    folder,
    `${relative(root, source).replaceAll(/[\\/]/g, '_')}.${architecture}.cubin`,
  )
  const target = `arch=compute_${number},code=${architecture}`
  const include = ['native', 'native/test'].flatMap(path => ['-I', join(root, path)])
  const { status, text } = await runQuietly('nvcc', [
    ...flags,
    ...include,
    '-gencode',
    target,
    '-cubin',
    '-o',
    cubin,
    source,
  ])
  if (status !== 0) throw new Error(`does not compile for ${architecture}:\n${text}`)
  const usage = readUsage(text)
  return [...countOpcodes(cubin)]
    .filter(([name]) => usage.has(name))
    .map(([name, counts]) => ({ name, usage: usage.get(name), counts }))
}

/**
 * The terms that hold for every kernel that CudaQueue launches since sm_90, whatever its source
 * claims. A kernel whose claims name other architectures alone is empty there, and has none.
 */
function impliedTerms(source, architecture) {
  const launched = source.startsWith(join(root, 'native', 'cuda', 'kernels'))
  return launched && Number.parseInt(architecture.slice(3), 10) >= 90 ? ['ACQBULK', 'PREEXIT'] : []
}

/** The wrong claims about a source's kernels on one architecture. */
function refuteClaims(claims, implied, kernels, architecture) {
  const wrong = []
  const claimed = new Set()
  for (const { architectures, kernel, terms } of claims) {
    const found = kernels.filter(({ name }) => name.includes(kernel))
    for (const { name } of found) claimed.add(name)
    if (!architectures.includes('*') && !architectures.includes(architecture)) continue
    if (found.length === 0) wrong.push(`${architecture}: no kernel is named ${kernel}`)
    for (const one of found) {
      for (const term of terms) {
        const text = refute(term, one)
        if (text) wrong.push(`${architecture} ${shortName(one.name)}: ${text}`)
      }
    }
  }
  for (const one of kernels) {
    if (!claimed.has(one.name))
      wrong.push(`${architecture} ${shortName(one.name)}: no claim speaks of it`)
    const elsewhere = claims
      .filter(({ kernel }) => one.name.includes(kernel))
      .every(
        ({ architectures }) =>
          !architectures.includes('*') && !architectures.includes(architecture),
      )
    for (const term of elsewhere ? [] : implied) {
      const text = refute(term, one)
      if (text) wrong.push(`${architecture} ${shortName(one.name)}: ${text}, as in await_inputs`)
    }
  }
  return wrong
}

function describeKernel({ name, usage, counts }, architecture, allOpcodes) {
  const shown = [...counts]
    .filter(([opcode]) => allOpcodes || !opcode.startsWith('0x'))
    .sort((a, b) => b[1] - a[1])
    .map(([opcode, n]) => `${opcode} ${n}`)
  const memory = `${usage.registers} registers, ${usage.spillBytes} bytes spilled, ${usage.stackBytes} stack`
  return `${architecture} ${shortName(name)}: ${memory}; ${shown.join(' ')}`
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

function parse(argv) {
  const options = {
    architectures: ['sm_75', 'sm_80', 'sm_86', 'sm_89', 'sm_90a', 'sm_100', 'sm_120'],
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

/**
 * Compiles every source for every architecture, as many at a time as there are processors: results
 * by source.
 */
async function compileAll({ files, architectures }, folder) {
  const jobs = files.flatMap(source =>
    architectures.map(architecture => ({ source, architecture })),
  )
  const results = new Map(files.map(source => [source, []]))
  let next = 0
  const worker = async () => {
    while (next < jobs.length) {
      const { source, architecture } = jobs[next++]
      const result = { architecture, kernels: [], error: undefined }
      results.get(source).push(result)
      try {
        result.kernels = await compile(source, architecture, folder)
      } catch (error) {
        result.error = error.message
      }
    }
  }
  await Promise.all(Array.from({ length: availableParallelism() }, worker))
  return results
}

const options = parse(process.argv.slice(2))
if (spawnSync('nvcc', ['--version']).error) {
  const skipped = 'no CUDA kernel was compiled for GPUs, no machine code was looked at'
  console.log(
    `sass-check: ${options.ifNvcc ? 'SKIPPED' : 'failed'}: nvcc was not found; ${skipped}`,
  )
  process.exit(options.ifNvcc ? 0 : 1)
}
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
    for (const { architecture, kernels, error } of results) {
      const texts = error
        ? [error]
        : refuteClaims(
            readClaims(source),
            impliedTerms(source, architecture),
            kernels,
            architecture,
          )
      for (const text of texts) wrong.push(`${relative(root, source)}: ${text}`)
      if (!options.list) continue
      for (const kernel of kernels)
        console.log(`  ${describeKernel(kernel, architecture, options.allOpcodes)}`)
    }
  }
} finally {
  rmSync(folder, { recursive: true })
}
for (const text of wrong) console.error(`sass-check: ${text}`)
process.exit(wrong.length === 0 ? 0 : 1)
