// Runs a bench, and builds the programs that it needs first: for the CPU, unless MOEPP_CUDA is ON.
//
//   npm run bench                           the native microbenchmarks
//   npm run bench -- --threads=2 grouped    some of them (bench/ops/main.cc has the options)
//   npm run bench -- end-to-end             the whole model
//   npm run bench -- expert-forward         the paper's headline
//   npm run bench -- quality                the loss in quality by quantised weights
//   npm run bench -- grammar [FOLDER]       grammars over the vocabulary of a tokenizer
//   npm run bench -- tokenizer              encoding: time, and holds of the event loop
//   npm run bench -- speculate              guesses of the next tokens: gain and cost
//   npm run bench -- routing                a survey of routing, beside computing the text
//   npm run bench -- serve                  the server under load
//   npm run bench -- state                  keys and values in a file, against computing them
//   npm run bench -- parallel               ranks under mpirun, against one process and the twin
//   npm run bench -- parallel/simulate      8 to 256 ranks, simulated from measured costs
//   npm run bench -- parallel-load          bytes that each rank reads and holds
//   npm run bench -- cuda-count             what CUDA kernels move, counted under emulation
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { programs, root, run } from '../scripts/build-native.mjs'

/**
 * The benches that are scripts, and what scripts/setup.mjs is to build for them besides the addon.
 */
const scripts = new Map([
  ['end-to-end', []],
  ['expert-forward', ['--native']],
  ['grammar', []],
  ['quality', []],
  ['parallel', []],
  ['parallel/simulate', []],
  ['parallel-load', []],
  ['tokenizer', []],
  ['routing', []],
  ['serve', []],
  ['speculate', []],
  ['state', []],
])
const [first, ...rest] = process.argv.slice(2)
/** The program for what is no script; setup.mjs builds it. */
const [program, level, options] =
  first === 'cuda-count'
    ? [programs.count, '--count', rest]
    : [programs.native, '--native', process.argv.slice(2)]
const levels = scripts.get(first) ?? [level]
run(process.execPath, [join(root, 'scripts', 'setup.mjs'), '--quiet', ...levels])
if (levels.includes('--native') && !scripts.has(first) && !process.env.MOEPP_CUDA) {
  if (spawnSync('nvidia-smi', ['-L']).status === 0)
    console.error('moepp: the CPU alone; bench/gpu.sh builds for the GPU and measures it')
}
const [command, args] = scripts.has(first)
  ? [process.execPath, [join(root, 'bench', `${first}.mjs`), ...rest]]
  : [program, ['bench', ...options]]
const result = spawnSync(command, args, { stdio: 'inherit' })
if (result.error) console.error(result.error.message)
process.exit(result.status ?? 1)
