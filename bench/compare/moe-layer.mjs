// One MoE layer in f32 against onnxruntime's MoE op, alternating in one run. README.md of bench/
// says more.
//
//   node bench/compare/moe-layer.mjs [7b] [--tokens=512] [--threads=2] [--repetitions=20]
//   [--tau=0.75]
//     [--folder=.cache/synthetic]
import { closeSync, existsSync, openSync, renameSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { openCheckpoint } from '../../dist/checkpoint/checkpoint.js'
import { readModel } from '../../dist/families/registry.js'
import { count, oneOf, readArguments } from '../arguments.mjs'
import { hiddenStates, MoeLayer, median } from '../one-layer.mjs'
import { Checkpoint } from '../safetensors.mjs'
import { SYNTHETIC, synthetic } from '../synthetic.mjs'
import { widen } from '../synthetic-random.mjs'
import { SHAPES } from '../synthetic-shapes.mjs'
import { availableThreads } from '../threads.mjs'
import { onnxModel } from './onnx.mjs'
import { load } from './packages.mjs'

const LAYER = 'model.layers.0'
/** Long enough that the other side's threads have stopped spinning. */
const PAUSE_MS = 30

/**
 * Writes layer 0 of the vanilla twin as a graph of the router's product and the MoE op, unless it
 * is there. SwiGLU as the twin has it is the op's `swiglu` with alpha 1, beta 0 and no limit; it
 * takes gate and up rows alternating.
 */
function writeOnnx(directory, config, tokens) {
  const { hiddenSize: H, intermediateSize: F, ffnExperts: N } = config
  const path = join(directory, `moe-${tokens}.onnx`)
  const data = 'moe.onnx.data'
  const sizes = { router: [N, H], up: [N, 2 * F, H], down: [N, H, F] }
  if (!existsSync(join(directory, data)))
    writeWeights(join(directory, data), new Checkpoint(directory), N, F, H)
  let offset = 0
  const initializers = Object.entries(sizes).map(([name, shape]) => {
    const initializer = { name, shape, file: data, offset }
    offset += 4 * shape.reduce((a, b) => a * b, 1)
    return initializer
  })
  const graph = {
    nodes: [
      { op: 'Gemm', inputs: ['x', 'router'], output: 'logits', attributes: { transB: { int: 1 } } },
      {
        op: 'MoE',
        domain: 'com.microsoft',
        inputs: ['x', 'logits', 'up', '', 'down'],
        output: 'y',
        attributes: {
          k: { int: 2 },
          normalize_routing_weights: { int: 1 },
          activation_type: { string: 'swiglu' },
          swiglu_fusion: { int: 1 },
          activation_alpha: { float: 1 },
          activation_beta: { float: 0 },
        },
      },
    ],
    initializers,
    inputs: [{ name: 'x', shape: [tokens, H] }],
    outputs: [{ name: 'y', shape: [tokens, H] }],
  }
  writeFileSync(path, onnxModel(graph))
  return path
}

function writeWeights(path, checkpoint, N, F, H) {
  const partial = `${path}.partial`
  const file = openSync(partial, 'w')
  const write = values => {
    const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength)
    for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done)
  }
  try {
    for (const piece of checkpoint.rows(`${LAYER}.mlp.moe.gate.wg.weight`, 0, N))
      write(widen(piece))
    for (let e = 0; e < N; e++) {
      const rows = widen(checkpoint.values(`${LAYER}.mlp.moe.experts.experts.${e}.up_proj.weight`))
      const alternating = new Float32Array(rows.length)
      for (let f = 0; f < F; f++) {
        alternating.set(rows.subarray(f * H, (f + 1) * H), 2 * f * H)
        alternating.set(rows.subarray((F + f) * H, (F + f + 1) * H), (2 * f + 1) * H)
      }
      write(alternating)
    }
    for (let e = 0; e < N; e++) {
      write(widen(checkpoint.values(`${LAYER}.mlp.moe.experts.experts.${e}.down_proj.weight`)))
    }
  } finally {
    closeSync(file)
    checkpoint.close()
  }
  renameSync(partial, path)
}

class Onnx {
  static async load(path, threads) {
    return new Onnx(
      await InferenceSession.create(path, { intraOpNumThreads: threads, interOpNumThreads: 1 }),
    )
  }

  constructor(session) {
    this.session = session
  }

  async run(x) {
    const { y } = await this.session.run({ x: new Tensor('float32', x, [tokens, H]) })
    return y.data
  }

  close() {
    return this.session.release()
  }
}

/** The layer of a checkpoint. */
async function loadLayer(directory, threads) {
  const { config } = await readModel(directory)
  return MoeLayer.load(config, await openCheckpoint(directory), { matrix: 'f32', threads })
}

function largestDifference(a, b) {
  let [difference, largest] = [0, 0]
  for (let i = 0; i < a.length; i++) {
    difference = Math.max(difference, Math.abs(a[i] - b[i]))
    largest = Math.max(largest, Math.abs(b[i]))
  }
  return { difference, largest }
}

// A layer of MoE++ is recorded.
const shape = oneOf(Object.keys(SHAPES).filter(name => SHAPES[name].family === 'moepp'))
const { tau, folder } = SYNTHETIC
const kinds = { shape, tau, folder, tokens: count, threads: count, repetitions: count }
const { shape: name = '7b', ...options } = readArguments(process.argv.slice(2), kinds, 'shape')
const { tokens = 512, threads = availableThreads(), repetitions = 20 } = options
const { InferenceSession, Tensor } = await load('onnxruntime-node')
const checkpoint = { layers: 1, tau: options.tau, folder: options.folder }
const vanillaDirectory = synthetic(name, { ...checkpoint, vanilla: true })
const mixedDirectory = synthetic(name, checkpoint)
const { config } = await readModel(vanillaDirectory)
const { hiddenSize: H, intermediateSize: F } = config
const x = hiddenStates(vanillaDirectory, tokens, H)

const sides = {
  onnxruntime: await Onnx.load(writeOnnx(vanillaDirectory, config, tokens), threads),
  'moepp, vanilla': await loadLayer(vanillaDirectory, threads),
  'moepp, MoE++': await loadLayer(mixedDirectory, threads),
}
const { difference, largest } = largestDifference(
  await sides['moepp, vanilla'].run(x),
  await sides.onnxruntime.run(x),
)
if (!(difference < 1e-4 * largest)) {
  throw new Error(
    `the two sides differ by ${difference}, with values up to ${largest}: not the same function`,
  )
}
console.log(
  `results differ by ${difference.toExponential(1)} at most, with values up to ${largest.toPrecision(2)}`,
)

const times = Object.fromEntries(Object.keys(sides).map(side => [side, []]))
for (let i = -2; i < repetitions; i++) {
  for (const [side, layer] of Object.entries(sides)) {
    await setTimeout(PAUSE_MS)
    const started = performance.now()
    await layer.run(x)
    if (i >= 0) times[side].push(performance.now() - started)
  }
}
const experts = {
  onnxruntime: 2,
  'moepp, vanilla': await sides['moepp, vanilla'].ffnExperts(x),
  'moepp, MoE++': await sides['moepp, MoE++'].ffnExperts(x),
}
console.log(
  `${name}, one layer, ${tokens} tokens, f32, ${threads} threads, medians of ${repetitions}\n`,
)
console.log(
  '| | FFN experts/token | ms | GFLOP/s | time against onnxruntime |\n|---|---:|---:|---:|---:|',
)
for (const [side, values] of Object.entries(times)) {
  const ms = median(values)
  const operations = 2 * tokens * experts[side] * 3 * H * F
  const ratio = ms / median(times.onnxruntime)
  console.log(
    `| ${side} | ${experts[side].toFixed(2)} | ${ms.toPrecision(4)} | ${(operations / ms / 1e6).toFixed(0)} | ${ratio.toFixed(2)} |`,
  )
}
console.log(JSON.stringify({ name, tokens, threads, repetitions, experts, times, difference }))
for (const layer of Object.values(sides)) await layer.close()
