// Several ranks under mpirun: speed against one process, and what travels between them against the
// vanilla twin, whose zero-computation experts are masked.
//
//   npm run bench -- parallel [--model=DIR] [--ranks=2] [--threads=1] [--sequences=16]
//     [--prompt=32] [--tokens=128] [--long=4096] [--dtype=auto] [--rounds=3]
//     [--mpirun="mpirun --oversubscribe"] [--mpicc=mpicc]
//
// --threads are those of a rank; the one process has as many as all ranks together. Times are
// medians over rounds, in turns. Bytes are of both generations of a run and of the long prompt.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildMpi } from '../dist/parallel/build-mpi.js'
import { count, oneOf, readArguments, text } from './arguments.mjs'

const {
  model = 'models/books-7m',
  ranks = 2,
  threads = 1,
  sequences = 16,
  prompt = 32,
  tokens = 128,
  long = 4096,
  dtype = 'auto',
  rounds = 3,
  mpirun = 'mpirun --oversubscribe',
  mpicc = 'mpicc',
} = readArguments(process.argv.slice(2), {
  ...{ model: text, ranks: count, threads: count, sequences: count, prompt: count, tokens: count },
  ...{ long: count, dtype: oneOf(['auto', 'float32', 'bfloat16', 'int8', 'int4', 'int4-all']) },
  ...{ rounds: count, mpirun: text, mpicc: text },
})
await buildMpi(mpicc)
const child = join(import.meta.dirname, 'parallel-rank.mjs')

/** One run: its result, and the counters of its ranks. */
function measure({ isGroup, isTwin }) {
  const folder = mkdtempSync(join(tmpdir(), 'moepp-bench-'))
  const run = { folder, model, sequences, tokens, prompt, long, dtype, isGroup, isTwin }
  const words = JSON.stringify({ ...run, threads: isGroup ? threads : ranks * threads })
  const starter = isGroup ? [...mpirun.split(' '), '-n', String(ranks)] : []
  const [command, ...args] = [...starter, process.execPath, child, words]
  try {
    const { status } = spawnSync(command, args, {
      stdio: ['ignore', 'ignore', 'inherit'],
      // Long prompts are longer than the bundled model was made for.
      env: { ...process.env, NODE_NO_WARNINGS: '1' },
    })
    if (status !== 0) throw new Error(`${command}: status ${status}`)
    const read = name => JSON.parse(readFileSync(join(folder, name), 'utf8'))
    const infos = readdirSync(folder).filter(name => name.startsWith('rank-'))
    return { ...read('result.json'), infos: infos.map(read) }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const KINDS = {
  'one process': { isGroup: false, isTwin: false },
  [`${ranks} ranks`]: { isGroup: true, isTwin: false },
  [`${ranks} ranks, vanilla twin`]: { isGroup: true, isTwin: true },
}
const runs = new Map(Object.keys(KINDS).map(name => [name, []]))
for (let round = 0; round < rounds; round++)
  for (const [name, kind] of Object.entries(KINDS)) runs.get(name).push(measure(kind))

const median = numbers => numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)]
const of = (name, value) => median(runs.get(name).map(value))
const total = (infos, field) => infos.reduce((sum, info) => sum + info[field], 0)
const ms = number => `${number.toFixed(2)} ms`
const percent = share => `${(100 * share).toFixed(1)} %`

console.log(`${model}: ${sequences} texts of ${prompt} + ${tokens} tokens, ${dtype}`)
for (const [name, [{ infos, weightBytes, ffnPicks, picks }]] of runs) {
  const rate = of(name, run => (1000 * sequences * tokens) / run.ms)
  console.log(
    `${name}: ${rate.toFixed(0)} tokens/s, ${(weightBytes / 1e6).toFixed(1)} MB of weights at rank 0`,
  )
  console.log(`  a step of ${sequences}: ${ms(of(name, run => run.decodeMs / (tokens - 1)))}`)
  console.log(`  FFN picks of a token: ${ffnPicks.toFixed(2)} of ${picks}`)
  const gaps = ['median', 'p95', 'most'].map(which => of(name, run => run.gaps[which]))
  console.log(
    `  between tokens, beside a prompt of ${long}: ${gaps.map(ms).join(', ')} (median, p95, most)`,
  )
  if (infos.length === 0) continue
  const exchanges = infos[0].exchanges
  const local = total(infos, 'localPicks') / total(infos, 'picks')
  console.log(
    `  between ranks: ${total(infos, 'bytesSent')} bytes, ${total(infos, 'rowsSent')} rows, ` +
      `${total(infos, 'messagesSent')} messages in ${exchanges} exchanges`,
  )
  console.log(
    `  FFN picks at the own rank: ${percent(local)}; waited ${ms(infos[0].waitMs)} at rank 0`,
  )
}
const [group] = runs.get(`${ranks} ranks`)
const [twin] = runs.get(`${ranks} ranks, vanilla twin`)
const saved = field => 1 - total(group.infos, field) / total(twin.infos, field)
console.log(
  `saved by zero-computation experts: ${percent(saved('bytesSent'))} of the bytes, ${percent(saved('rowsSent'))} of the rows`,
)
console.log(
  `  share of picks of zero-computation experts: ${percent(1 - group.ffnPicks / group.picks)} in these texts, ` +
    `${percent(1 - group.evenPicks / group.picks)} if picks were even`,
)
