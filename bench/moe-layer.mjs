// The paper's headline: how much faster a MoE++ layer is than a vanilla top-2 layer with the same FFN experts, on the same kernels,
// by tau and tokens of a step, as a program with its router runs them; expert-forward.mjs measures the experts' kernels alone. The
// vanilla layer and one of MoE++ alternate.
//
//   npm run bench -- moe-layer [7b] [--taus=0.1,0.25,0.5,0.75,1] [--tokens=512,2048] [--dtype=bfloat16] [--threads=2]
//     [--repetitions=15]
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openCheckpoint } from '../dist/checkpoint/checkpoint.js'
import { parseConfig } from '../dist/config.js'
import { MATRIX_DTYPES } from '../dist/load.js'
import { hiddenStates, MoeLayer, median } from './one-layer.mjs'
import { flag, STD, synthetic, syntheticArguments } from './synthetic.mjs'
import { toBf16 } from './synthetic-random.mjs'
import { meanLogits, routerRows } from './synthetic-routing.mjs'
import { config, ffnShare, SHAPES, ZERO_COMPUTATION_EXPERTS } from './synthetic-shapes.mjs'
import { threadsOf } from './threads.mjs'

const ROUTER = 'model.layers.0.mlp.moe.gate.wg.weight'

/** The twin's tensors with the router of a MoE++ layer of `tau` in the place of its own. */
function withRouter(tensors, shape, tau, folder) {
  const experts = shape.ffnExperts + ZERO_COMPUTATION_EXPERTS
  const { rows } = routerRows({
    hidden: shape.hidden,
    means: meanLogits({ ffnExperts: shape.ffnExperts, experts, share: ffnShare(shape, tau), seed: 1 }),
    std: STD,
    seed: 2,
  })
  const file = join(folder, `tau-${tau}.bin`)
  const values = Uint16Array.from(rows, toBf16)
  writeFileSync(file, new Uint8Array(values.buffer))
  const router = {
    dtype: 'bf16',
    shape: [experts, shape.hidden],
    file,
    byteOffset: 0,
    byteLength: 2 * values.length,
  }
  return new Map([...tensors, [ROUTER, router]])
}

async function timeOf(layer, x) {
  const started = performance.now()
  await layer.run(x)
  return performance.now() - started
}

const args = process.argv.slice(2)
const [name] = syntheticArguments(args)
const list = (flagName, fallback) => (flag(args, flagName) ?? fallback).split(',').map(Number)
const taus = list('taus', '0.1,0.25,0.5,0.75,1')
const counts = list('tokens', '512,2048')
const dtype = flag(args, 'dtype') ?? 'bfloat16'
const threads = threadsOf(args)
const repetitions = Number(flag(args, 'repetitions') ?? 15)
if (!Object.hasOwn(MATRIX_DTYPES, dtype)) {
  throw new RangeError(`--dtype: expected one of ${Object.keys(MATRIX_DTYPES).join(', ')}, got ${dtype}`)
}

const directory = synthetic(name, { layers: 1, vanilla: true })
const shape = { ...SHAPES[name], layers: 1 }
const { tensors } = await openCheckpoint(directory)
const inputs = new Map(counts.map(tokens => [tokens, hiddenStates(directory, tokens, shape.hidden)]))
const settings = { matrix: MATRIX_DTYPES[dtype], threads }
const vanilla = await MoeLayer.load(parseConfig(config(shape, true), 'vanilla'), tensors, settings)
const folder = mkdtempSync(join(tmpdir(), 'moepp-moe-layer-'))
const rows = []
try {
  for (const tau of taus) {
    const layer = await MoeLayer.load(
      parseConfig(config(shape, false), 'MoE++'),
      withRouter(tensors, shape, tau, folder),
      settings,
    )
    for (const [tokens, x] of inputs) {
      const times = { vanilla: [], mixed: [] }
      for (let i = -2; i < repetitions; i++) {
        const [plain, mixed] = [await timeOf(vanilla, x), await timeOf(layer, x)]
        if (i < 0) continue
        times.vanilla.push(plain)
        times.mixed.push(mixed)
      }
      rows.push({ tau, tokens, ffnExperts: await layer.ffnExperts(x), ...times })
    }
    await layer.close()
  }
} finally {
  rmSync(folder, { recursive: true })
  await vanilla.close()
}
const percent = ratio => `+${(100 * (ratio - 1)).toFixed(1)} %`
console.log(`${name}, one layer, ${dtype}, ${threads} threads, medians of ${repetitions}\n`)
console.log('| tau | tokens | FFN experts/token | vanilla ms | MoE++ ms | gain | ideal for these picks |')
console.log('|---:|---:|---:|---:|---:|---:|---:|')
for (const { tau, tokens, ffnExperts, vanilla: plain, mixed } of rows) {
  const [a, b] = [median(plain), median(mixed)]
  console.log(
    `| ${tau} | ${tokens} | ${ffnExperts.toFixed(2)} | ${a.toPrecision(4)} | ${b.toPrecision(4)} | ${percent(a / b)} | ${percent(2 / ffnExperts)} |`,
  )
}
console.log(JSON.stringify({ name, dtype, threads, repetitions, rows }))
