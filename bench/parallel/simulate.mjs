// Simulates many ranks: MoE++ against its vanilla twin, whose zero-computation experts are masked.
// The routing is recorded from a text, and the costs are measured here.
//
//   npm run bench -- parallel/simulate [--model=DIR] [--text=FILE] [--dtype=auto] [--threads=1]
//     [--shape=7b] [--zero=N] [--cost-layers=2]
//     [--ranks=1,2,4,8,16,32,64,128,256] [--sequences=16] [--prompt=128] [--steps=16] [--copies=1]
//     [--latency-us=10] [--gbit=25] [--validate] [--validate-ranks=1,2,3,4] [--rounds=3]
//     [--turns=9] [--quantile=0.5] [--costs=FILE] [--out=build/parallel-simulate]
//     [--mpirun="mpirun --oversubscribe"] [--mpicc=mpicc]
//
// Each rank has a machine of its own, and the network between them is the options'. --shape: the
// costs are those of a synthetic checkpoint, and the picks are resampled for it. --validate: ranks
// of this machine, simulated and run under mpirun; it ends with status 1 if a count differs.
//
// Prints tables; writes <out>.svg and <out>.json, which has the costs: --costs reads them again.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { buildMpi } from '../../dist/parallel/build-mpi.js'
import { root } from '../../scripts/build-native.mjs'
import {
  count,
  fraction,
  listOf,
  oneOf,
  positive,
  present,
  readArguments,
  text,
} from '../arguments.mjs'
import { checkZero, SYNTHETIC, synthetic } from '../synthetic.mjs'
import { SHAPES } from '../synthetic-shapes.mjs'
import { measureCosts, medians, runRanks } from './costs.mjs'
import { resample } from './picks.mjs'
import { plot } from './plot.mjs'
import { record } from './record.mjs'
import * as report from './report.mjs'
import { idealSaving, predicted, ranksOf, secondMachine, withEfficiency } from './scenarios.mjs'
import { quantile } from './timing.mjs'

/** The paper's, of its 7B model. */
const TAU = 0.75
const BOOKS = 'models/books-7m'
const SEED = 1
const EXPERT_ROWS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
/** Sequences of a decode step whose times are measured, and of a second machine's question. */
const SEQUENCES = [1, 2, 4, 8, 16, 32, 64]

const KINDS = {
  ...{ model: text, text, shape: SYNTHETIC.shape, zero: count, 'cost-layers': count },
  dtype: oneOf(['auto', 'float32', 'bfloat16', 'int8', 'int4', 'int4-all']),
  ...{ ranks: listOf(count), 'validate-ranks': listOf(count), validate: present },
  ...{ sequences: count, prompt: count, steps: count, copies: count, threads: count },
  ...{ 'latency-us': positive, gbit: positive, rounds: count, turns: count, quantile: fraction },
  ...{ costs: text, out: text, mpirun: text, mpicc: text },
}

/** Options of measuring costs. */
const OF_COSTS = ['zero', 'cost-layers', 'dtype', 'threads', 'turns', 'quantile', 'mpirun', 'mpicc']

const options = {
  model: BOOKS,
  dtype: 'auto',
  ranks: [1, 2, 4, 8, 16, 32, 64, 128, 256],
  'cost-layers': 2,
  'validate-ranks': [1, 2, 3, 4],
  'latency-us': 10,
  gbit: 25,
  rounds: 3,
  sequences: 16,
  prompt: 128,
  steps: 16,
  copies: 1,
  threads: 1,
  turns: 9,
  quantile: 0.5,
  out: join(root, 'build', 'parallel-simulate'),
  mpirun: 'mpirun --oversubscribe',
  mpicc: 'mpicc',
  ...readArguments(process.argv.slice(2), KINDS, undefined, verify),
}

/** Of options that belong to another one: with it, or without it. */
function verify(given) {
  const { shape, zero } = given
  const fault = (name, words) => {
    if (given[name] !== undefined) throw new RangeError(`--${name}: expected ${words}`)
  }
  if (shape === undefined) for (const name of ['zero', 'cost-layers']) fault(name, 'with --shape')
  if (!given.validate)
    for (const name of ['validate-ranks', 'rounds']) fault(name, 'with --validate')
  else for (const name of ['shape', 'costs']) fault(name, 'without --validate')
  if (given.costs !== undefined) for (const name of OF_COSTS) fault(name, 'without --costs')
  if (shape !== undefined) checkZero({ shape, zero })
}

/** The tables, and the document of it all. */
function main(recorded, costs, validation) {
  const { compute } = costs
  const made = options.shape === undefined ? recorded : resampled(recorded, compute)
  const windows = Math.ceil(recorded.model.windows / 2)
  const plan = { ...options, windows }
  const network = { latency: options['latency-us'] * 1e-6, perByte: 8 / (options.gbit * 1e9) }
  const asked = { text: made, costs, network, plan }
  const rows = withEfficiency(options.ranks.flatMap(ranks => ranksOf(ranks, asked)))
  const second = secondMachine(SEQUENCES, asked)
  const ideal = idealSaving(compute, TAU, made.model)
  const title = `${options.shape ?? basename(options.model)}, ${costs.dtype}`
  const document = {
    ...{ bench: 'parallel/simulate', title, date: costs.date, machine: costs.machine },
    ...{ options, ideal, rows, second, validation, costs },
  }
  report.print(document)
  mkdirSync(dirname(options.out), { recursive: true })
  writeFileSync(`${options.out}.json`, `${JSON.stringify(document, null, 1)}\n`)
  writeFileSync(`${options.out}.svg`, plot(document))
  console.log(`\n${options.out}.svg, ${options.out}.json`)
}

/** For the shape, from the model's picks and from those of its twin. */
function resampled({ model, twin }, { topK, experts }) {
  const shape = { layers: SHAPES[options.shape].layers, topK, experts }
  return { model: resample(model, shape, SEED), twin: resample(twin, shape, SEED) }
}

/** Of --rounds rounds: costs, and the runs that they are to predict, in turns. */
function validate(job, recorded) {
  const ranks = options['validate-ranks']
  const sizes = [...new Set([2, ...ranks.filter(size => size > 1)])]
  const kinds = ranks.flatMap(size => ['model', 'twin'].map(model => ({ ranks: size, model })))
  const rounds = Array.from({ length: options.rounds }, () => ({
    costs: measureCosts(job, { slots: slots(), sizes }),
    runs: kinds.map(kind => runOnce(job, kind)),
  }))
  const costs = medians(rounds.map(round => round.costs))
  const plan = { ...options, windows: recorded.model.windows }
  const validation = kinds.flatMap((kind, i) =>
    ['decode', 'prefill'].map(phase => {
      const runs = rounds.map(round => round.runs[i].map(rank => rank[phase]))
      return {
        ...{ ...kind, phase },
        counts: countsOf(runs[0]),
        seconds: stepSeconds(runs.map(([{ seconds }]) => seconds)),
        predicted: predicted(kind.ranks, kind.model, phase, { text: recorded, costs, plan }),
      }
    }),
  )
  return { costs, validation }
}

function runOnce(job, { ranks, model }) {
  const { sequences } = options
  const windows = job.windows.slice(0, ranks * sequences)
  return runRanks({ ...job, windows, sequences, isTwin: model === 'twin', kind: 'steps', ranks })
}

/** Of all ranks, or null without a group. */
function countsOf(ranks) {
  const [{ counts }] = ranks
  if (counts === undefined) return null
  const total = name => ranks.reduce((sum, rank) => sum + rank.counts[name], 0)
  return Object.fromEntries(Object.keys(counts).map(name => [name, total(name)]))
}

/** Mean over the steps, by the quantile of all turns of a step. */
function stepSeconds(rounds) {
  const steps = rounds[0].map((_, i) => rounds.flatMap(seconds => seconds[i]))
  const typical = steps.map(turns => quantile(turns, options.quantile))
  return typical.reduce((a, b) => a + b, 0) / typical.length
}

/** Those that an earlier run has written. */
function savedCosts(file) {
  const { costs } = JSON.parse(readFileSync(file, 'utf8'))
  if (costs.prompt === options.prompt) return costs
  return stop(`--costs: are of prompts of ${costs.prompt} tokens, expected ${options.prompt}`)
}

function stop(message) {
  console.error(message)
  process.exit(2)
}

/** Ranks that compute at the same time here. */
function slots() {
  return Math.max(1, Math.floor(availableParallelism() / options.threads))
}

const { shape, zero, model, prompt, steps, threads, dtype, turns, mpirun } = options
const length = prompt + steps
const file = options.text ?? join(BOOKS, 'heldout.txt')
const { windows, ...recorded } = await record(model, file, { length, most: 1024, dtype: 'auto' })
const sequences = Math.max(options.sequences, ...SEQUENCES)
const ranks = options.validate ? Math.max(...options['validate-ranks']) : 1
const needed = ranks * options.sequences
if (windows.length < needed)
  stop(`--text: has ${windows.length} windows of ${length} tokens, expected ${needed} at least`)
/** The model of the costs is a synthetic one for a shape. */
const source = () =>
  shape === undefined ? model : synthetic(shape, { layers: options['cost-layers'], zero })
const job = {
  ...{ dtype, threads, prompt, length, turns, mpirun, sequences },
  quantile: options.quantile,
  windows: windows.slice(0, Math.max(sequences, needed)),
  expertRows: EXPERT_ROWS,
  decodeCounts: [...new Set([...SEQUENCES, options.sequences])].sort((a, b) => a - b),
}
if (options.costs === undefined) await buildMpi(options.mpicc)
if (options.validate) {
  const { costs, validation } = validate({ ...job, model }, recorded)
  main(recorded, costs, validation)
  if (validation.some(run => report.differences(run).length > 0)) process.exitCode = 1
} else {
  const costs =
    options.costs === undefined
      ? measureCosts({ ...job, model: source() }, { slots: slots(), sizes: [2] })
      : savedCosts(options.costs)
  main(recorded, costs)
}
