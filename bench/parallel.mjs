// Several ranks under mpirun: speed against one process, and what travels between them against the
// vanilla twin, whose zero-computation experts are masked.
//
//   npm run bench -- parallel [--model=DIR] [--ranks=2] [--threads=1] [--sequences=16]
//     [--prompt=32] [--tokens=128] [--long=4096] [--dtype=auto] [--rounds=3]
//     [--mpirun="mpirun --oversubscribe"] [--mpicc=mpicc]
//
// --threads are those of a rank; the one process has as many as all ranks together. Times are
// medians over rounds, in turns. Bytes are of two generations, divided by tokens.
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
function measure(kind) {
  const folder = mkdtempSync(join(tmpdir(), 'moepp-bench-'))
  const run = { folder, model, sequences, tokens, prompt, long, dtype, ...kind }
  const words = JSON.stringify({ ...run, threads: kind.isGroup ? threads : ranks * threads })
  const starter = kind.isGroup ? [...mpirun.split(' '), '-n', String(ranks)] : []
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

const [one, group, twin] = ['one process', `${ranks} ranks`, `${ranks} ranks, vanilla twin`]
const KINDS = {
  [one]: { isGroup: false },
  [group]: { isGroup: true },
  [twin]: { isGroup: true, isTwin: true },
}
const texts = new Map(Object.keys(KINDS).map(name => [name, []]))
const streams = new Map([one, group].map(name => [name, []]))
for (let round = 0; round < rounds; round++) {
  for (const [name, runs] of texts) runs.push(measure(KINDS[name]))
  for (const [name, runs] of streams) runs.push(measure({ ...KINDS[name], beside: true }))
}

const median = numbers => numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)]
const of = (runs, value) => median(runs.map(value))
const total = ({ infos }, field) => infos.reduce((sum, info) => sum + info[field], 0)
const ms = number => `${number.toFixed(2)} ms`
const percent = share => `${(100 * share).toFixed(1)} %`
const stepMs = name => of(texts.get(name), ({ decodeMs }) => decodeMs / (tokens - 1))
/** Two generations compute as many tokens as so many steps of one of each text. */
const steps = 2 * (prompt + tokens - 1)

console.log(`${model}: ${sequences} texts of ${prompt} + ${tokens} tokens, ${dtype}`)
for (const [name, runs] of texts) {
  const [run] = runs
  const rate = of(runs, ({ ms }) => (1000 * sequences * tokens) / ms)
  const weights = `${(run.weightBytes / 1e6).toFixed(1)} MB of weights at rank 0`
  console.log(`${name}: ${rate.toFixed(0)} tokens/s, ${weights}`)
  const against =
    name === one ? '' : `, ${percent(stepMs(name) / stepMs(one) - 1)} above one process`
  console.log(`  a step of ${sequences} tokens: ${ms(stepMs(name))}${against}`)
  console.log(`  FFN picks of a token: ${run.ffnPicks.toFixed(2)} of ${run.picks}`)
  if (name === one) continue
  const messages = (total(run, 'messagesSent') / run.infos[0].exchanges) * (2 * run.layers + 1)
  const travels = field => (total(run, field) / steps).toFixed(0)
  console.log(
    `  between ranks in a step: ${travels('bytesSent')} bytes, ${travels('rowsSent')} rows, ${messages} messages`,
  )
  const local = total(run, 'localPicks') / total(run, 'picks')
  const waits = of(runs, ({ infos }) => infos[0].waitMs / steps)
  console.log(`  FFN picks at the own rank: ${percent(local)}; rank 0 waits ${ms(waits)} in a step`)
}

console.log(`between the tokens of a text, median, p95 and most (${long} tokens at another rank):`)
for (const [name, runs] of streams) {
  for (const when of ['alone', 'beside']) {
    const words = when === 'alone' ? 'alone' : 'beside that prompt'
    const gaps = ['median', 'p95', 'most'].map(which => ms(of(runs, run => run[when][which])))
    console.log(`  ${name}, ${words}: ${gaps.join(', ')} (${runs[0][when].count} tokens)`)
  }
  console.log(`  ${name}, the prompt: ${ms(of(runs, run => run.promptMs))}`)
}

// In the ideal bytes are in proportion to FFN picks. Training balances them by the paper's tau
// (2410.07348, section 3.2); texts have a share of their own. Less than the ideal is saved because
// a row for two picks at one rank travels once, and the vanilla twin has more such rows.
const TAU = 0.75
const [ours, vanilla] = [texts.get(group)[0], texts.get(twin)[0]]
const saved = 1 - total(ours, 'bytesSent') / total(vanilla, 'bytesSent')
const zero = ours.experts - ours.ffnExperts
const ideals = {
  "these texts' share of such picks": 1 - ours.ffnPicks / ours.picks,
  [`N_ZC / (tau N_FFN + N_ZC), tau ${TAU}`]: zero / (TAU * ours.ffnExperts + zero),
}
console.log(`bytes saved by zero-computation experts: ${percent(saved)}`)
for (const [name, ideal] of Object.entries(ideals))
  console.log(`  ideal by ${name}: ${percent(ideal)}, reached ${percent(saved / ideal)} of it`)
