// The paper's headline: the throughput gain of a MoE++ layer's experts over those of a vanilla
// top-2 MoE with the same FFN experts. It covers the paper's models and tau, on this project's
// kernels (bench/ops/expert_forward.cc).
//
//   npm run bench -- expert-forward [--models=0.6b,7b] [--tokens=512] [--curve=1,16,64,512,2048]
//                                   [--seconds=0.5] [--dtype=bf16] [--device=cpu|cuda]
//                                   [--isa=avx512] [--threads=2] [--out=build/expert-forward]
//
// Prints a table per device and the 7B model's curve over tokens; writes <out>.svg and <out>.json,
// and the JSON as the last line.
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { arch, cpus } from 'node:os'
import { dirname, join } from 'node:path'
import { programs, root } from '../scripts/build-native.mjs'
import { count, listOf, oneOf, positive, readArguments, text } from './arguments.mjs'
import { plot } from './expert-forward-plot.mjs'
import { experts, SHAPES } from './shapes.mjs'

const TAUS = [0.1, 0.25, 0.5, 0.75, 1]

/**
 * Gains in percent that the paper reports, by tau: arXiv 2410.07348, the table of expert forward
 * throughput.
 */
const PAPER = {
  '0.6b': [164.5, 92.7, 38.2, 25.2, 19.1],
  '1b': [111.2, 58.7, 30.1, 22.1, 15.2],
  '2b': [63.5, 44.3, 28.3, 21.8, 15.7],
  '7b': [undefined, undefined, undefined, 27.8, undefined],
}

const options = {
  models: Object.keys(SHAPES),
  tokens: [512],
  curve: [1, 16, 64, 512, 2048],
  seconds: 0.5,
  dtype: 'bf16',
  out: join(root, 'build', 'expert-forward'),
  ...readArguments(process.argv.slice(2), {
    models: listOf(oneOf(Object.keys(SHAPES))),
    tokens: listOf(count),
    curve: listOf(count),
    seconds: positive,
    dtype: oneOf(['bf16', 'f32', 'int8', 'int4']),
    out: text,
    device: oneOf(['cpu', 'cuda']),
    isa: text,
    threads: count,
  }),
}

/** Measures one model: a row per device, number of tokens and tau. */
function measure(model, tokens) {
  const { hidden, ffn, ffnExperts, constants } = SHAPES[model]
  const args = [
    'bench',
    'expert-forward',
    `--tokens=${tokens}`,
    `--tau=${TAUS}`,
    `--hidden=${hidden}`,
    `--ffn=${ffn}`,
  ]
  args.push(`--ffn-experts=${ffnExperts}`, `--constants=${constants}`)
  for (const name of ['seconds', 'dtype', 'device', 'isa', 'threads']) {
    if (options[name] !== undefined) args.push(`--${name}=${options[name]}`)
  }
  const program = process.env.MOEPP_NATIVE_PROGRAM ?? programs.native // gpu.sh builds its own
  const result = spawnSync(program, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (result.error) throw result.error
  if (result.status !== 0) {
    console.error(result.stdout.trimEnd())
    process.exit(result.status ?? 1)
  }
  return result.stdout
    .trim()
    .split('\n')
    .map(line => {
      const row = JSON.parse(line)
      const gain = 100 * (row.vanillaSeconds / row.moeppSeconds - 1)
      return {
        model,
        ...row,
        gain,
        ideal: ideal(model, row.tau),
        paper: PAPER[model][TAUS.indexOf(row.tau)],
      }
    })
}

/** Percent: a vanilla pick costs a GEMM row, a MoE++ pick only where it is an FFN expert. */
function ideal(model, tau) {
  const { ffnExperts } = SHAPES[model]
  return (100 * (experts(SHAPES[model]) - ffnExperts)) / (tau * ffnExperts)
}

const percent = value => (value === undefined ? '-' : `${value.toFixed(1)} %`).padStart(10)

function printTable(device, rows) {
  console.log(
    `\n${device}, ${options.dtype}, ${rows[0].tokens} tokens: gain in expert forward throughput over vanilla top-2`,
  )
  console.log(
    'model    tau    measured     ideal     paper    of the picks FFN    MoE++        vanilla',
  )
  for (const row of rows) {
    const times = [row.moeppSeconds, row.vanillaSeconds].map(s =>
      `${(1e3 * s).toFixed(3)} ms`.padStart(12),
    )
    const share = `${(100 * row.ffnShare).toFixed(1)} %`.padStart(12)
    console.log(
      `${row.model.padEnd(6)} ${row.tau.toFixed(2).padStart(5)} ${percent(row.gain)} ${percent(row.ideal)} ${percent(row.paper)} ${share}    ${times.join('  ')}`,
    )
  }
}

function printCurve(device, rows) {
  const tokens = [...new Set(rows.map(row => row.tokens))]
  console.log(`\n${device}, ${options.dtype}, 7b: gain over the tokens of a step`)
  console.log(`  tau ${tokens.map(t => `${t}`.padStart(10)).join(' ')}      ideal`)
  for (const tau of TAUS) {
    const gains = tokens.map(t => rows.find(row => row.tokens === t && row.tau === tau).gain)
    console.log(
      `${tau.toFixed(2).padStart(5)} ${gains.map(percent).join(' ')} ${percent(ideal('7b', tau))}`,
    )
  }
}

const table = options.models.flatMap(model => measure(model, options.tokens))
const curve = options.models.includes('7b') ? measure('7b', options.curve) : []
for (const device of new Set(table.map(row => row.device))) {
  const own = rows => rows.filter(row => row.device === device)
  for (const tokens of new Set(table.map(row => row.tokens)))
    printTable(
      device,
      own(table).filter(row => row.tokens === tokens),
    )
  if (curve.length > 0) printCurve(device, own(curve))
}
const document = {
  bench: 'expert-forward',
  date: new Date().toISOString().slice(0, 10),
  machine: `${cpus()[0]?.model ?? arch()}, ${cpus().length} CPUs`,
  dtype: options.dtype,
  table,
  curve,
}
mkdirSync(dirname(options.out), { recursive: true })
writeFileSync(`${options.out}.json`, `${JSON.stringify(document, null, 2)}\n`)
writeFileSync(`${options.out}.svg`, plot(document))
console.log(`\n${options.out}.svg, ${options.out}.json`)
console.log(JSON.stringify(document))
