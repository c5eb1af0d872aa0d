// Kernels compiled by nvcc: their machine code, and the words of ptxas.
import { spawn } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { join, relative, resolve } from 'node:path'
import { countOpcodes, hottestLoop, inspectOrder, readKernels } from './machine-code.mjs'

const root = resolve(import.meta.dirname, '..', '..')

/** As native/cuda/CMakeLists.txt compiles them. */
const flags = ['-std=c++17', '-O3', '--fmad=false', '-Werror', 'all-warnings', '-Xptxas', '-v']

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

/**
 * The lines of ptxas about costly faults that are no warnings. C7510 to C7517: products wait for
 * each other. C7508: a setmaxnreg is ignored.
 */
const readRemarks = text => text.split('\n').filter(line => /\bC75\d\d\b/.test(line))

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

/** One source on one architecture. Throws when it does not compile. */
async function compile(source, architecture, folder) {
  const number = architecture.replace('sm_', '')
  const file = `${relative(root, source).replaceAll(/[\\/]/g, '_')}.${architecture}.cubin`
  const cubin = join(folder, file)
  const include = ['native', 'native/test'].flatMap(path => ['-I', join(root, path)])
  const target = ['-gencode', `arch=compute_${number},code=${architecture}`]
  const { status, text } = await runQuietly('nvcc', [
    ...[...flags, ...include, ...target],
    ...['-cubin', '-o', cubin, source],
  ])
  if (status !== 0) throw new Error(`does not compile for ${architecture}:\n${text}`)
  const usage = readUsage(text)
  const kernels = [...readKernels(cubin)]
    .filter(([name]) => usage.has(name))
    .map(([name, code]) => ({
      name,
      usage: usage.get(name),
      counts: countOpcodes(code),
      order: inspectOrder(code),
      loop: hottestLoop(code, Number.parseInt(number, 10)),
    }))
  return { kernels, remarks: readRemarks(text) }
}

/**
 * Compiles every source for every architecture, as many at a time as there are processors. By
 * source: [{architecture, kernels, remarks, error}], `error` where it does not compile.
 */
export async function compileAll({ files, architectures }, folder) {
  const jobs = files.flatMap(source =>
    architectures.map(architecture => ({ source, architecture })),
  )
  const results = new Map(files.map(source => [source, []]))
  let next = 0
  const worker = async () => {
    while (next < jobs.length) {
      const { source, architecture } = jobs[next++]
      const result = { architecture, kernels: [], remarks: [], error: undefined }
      results.get(source).push(result)
      try {
        Object.assign(result, await compile(source, architecture, folder))
      } catch (error) {
        result.error = error.message
      }
    }
  }
  await Promise.all(Array.from({ length: availableParallelism() }, worker))
  return results
}
