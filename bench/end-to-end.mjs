// A whole model at real size, prefill and decode, as shares of what the same machine can do in the same minute.
//
//   npm run bench -- end-to-end [--layers=24] [--dtype=bfloat16] [--threads=2] [--model=DIRECTORY]
import { spawnSync } from 'node:child_process'
import { loadBinding } from '../dist/binding.js'
import { loadModel } from '../dist/index.js'
import { programs } from '../scripts/build-native.mjs'
import { synthetic } from './synthetic.mjs'

const PREFILL_TOKENS = 512
const DECODE_TOKENS = 32
const REPETITIONS = 5

/** GB/s read and f32 GFLOP/s of this machine now, by the native bench program. */
function ceilings(isa, threads) {
  const result = spawnSync(programs.bench, [`--isa=${isa}`, `--threads=${threads}`, 'ceilings-only'], {
    encoding: 'utf8',
  })
  const found = /: ([\d.]+) GB\/s read, ([\d.]+) GFLOP\/s/.exec(result.stdout ?? '')
  if (!found) throw new Error(`${programs.bench} printed no ceilings: ${result.error ?? result.stderr}`)
  return { bandwidth: Number(found[1]) * 1e9, flops: Number(found[2]) * 1e9 }
}

/** Weights that one token reads: attention, router and `ffn` FFN experts of each layer, in elements. */
function layerElements(c, ffn) {
  const attention = 2 * c.heads * c.headDim * c.hiddenSize + 2 * c.kvHeads * c.headDim * c.hiddenSize
  return attention + ffn * 3 * c.hiddenSize * c.intermediateSize
}

const median = values => values.toSorted((a, b) => a - b)[values.length >> 1]

function option(name, fallback) {
  const given = process.argv.find(argument => argument.startsWith(`--${name}=`))
  return given ? given.slice(name.length + 3) : fallback
}

const directory = option('model') ?? synthetic('7b', Number(option('layers', '24')))
const dtype = option('dtype', 'bfloat16')
const threads = Number(option('threads', '0')) || undefined
const device = new (loadBinding().Device)('cpu', { threads })
const { isa, threads: used, model: processor } = device.info()
device.close()

const started = performance.now()
const model = await loadModel(directory, { dtype, threads, device: 'cpu' })
const loadSeconds = (performance.now() - started) / 1000
console.error(`loaded in ${loadSeconds.toFixed(1)} s, measuring`)
const c = model.config
const elementBytes = dtype === 'float32' ? 4 : 2

let seed = 1
const randomTokens = count =>
  Array.from({ length: count }, () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    return 3 + (seed % (c.vocabSize - 3))
  })

const rows = []
for (let repetition = 0; repetition < REPETITIONS; repetition++) {
  // Before and after each pair of measurements, so that a busy neighbour lowers the ceiling too.
  const before = ceilings(isa, used)
  const options = { ignoreEos: true, temperature: 0, routing: true }
  const prefill = await model.generate(randomTokens(PREFILL_TOKENS), { ...options, maxNewTokens: 1 })
  const decode = await model.generate(randomTokens(32), { ...options, maxNewTokens: DECODE_TOKENS })
  const after = ceilings(isa, used)
  const bandwidth = (before.bandwidth + after.bandwidth) / 2
  const flops = (before.flops + after.flops) / 2
  const prefillRate = PREFILL_TOKENS / (prefill.timings.prefillMs / 1000)
  const decodeRate = (DECODE_TOKENS - 1) / (decode.timings.decodeMs / 1000)
  const work = 2 * c.layers * layerElements(c, prefill.routing.ffnExpertsPerToken)
  const context = 32 + DECODE_TOKENS / 2
  const bytes =
    elementBytes *
      (c.layers * layerElements(c, decode.routing.ffnExpertsPerToken) + c.vocabSize * c.hiddenSize) +
    context * c.layers * 2 * c.kvHeads * c.headDim * 4
  rows.push({
    prefillRate,
    decodeRate,
    prefillShare: (prefillRate * work) / flops,
    decodeShare: (decodeRate * bytes) / bandwidth,
    ffnExpertsPerToken: decode.routing.ffnExpertsPerToken,
    bandwidth,
    flops,
  })
}

const of = key => median(rows.map(row => row[key]))
console.log(
  `${processor}, ${isa}, ${used} threads; ${directory.split('/').at(-1)}, ${dtype}; loaded in ${loadSeconds.toFixed(1)} s`,
)
console.log(
  `ceilings: ${(of('bandwidth') / 1e9).toFixed(1)} GB/s read, ${(of('flops') / 1e9).toFixed(0)} GFLOP/s f32`,
)
console.log('| test | tokens/s | share of the ceiling |\n|---|---|---|')
console.log(
  `| prefill ${PREFILL_TOKENS} | ${of('prefillRate').toFixed(1)} | ${(100 * of('prefillShare')).toFixed(1)} % of f32 FMA |`,
)
console.log(
  `| decode after 32 | ${of('decodeRate').toFixed(2)} | ${(100 * of('decodeShare')).toFixed(1)} % of read bandwidth |`,
)
console.log(
  JSON.stringify({
    directory: directory.split('/').at(-1),
    dtype,
    isa,
    threads: used,
    processor,
    loadSeconds,
    rows,
  }),
)
await model.close()
