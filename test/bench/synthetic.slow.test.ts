/** bench/synthetic.mjs: its checkpoints load, and their routing is what was asked for. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { tokenAt } from '../../lib/benchmark/sequences.js'
import { inspectCheckpoint } from '../../lib/convert/inspect.js'
import { storedTensors } from '../../lib/families/record.js'
import { describeModel } from '../../lib/families/registry.js'
import { loadModel } from '../../lib/index.js'
import { root } from '../support/golden.js'

const TOKENS = 3000

function synthetic(folder: string, ...args: string[]): string {
  return made('tiny', folder, ...args)
}

function made(shape: string, folder: string, ...args: string[]): string {
  const script = join(root, 'bench', 'synthetic.mjs')
  const env = { ...process.env, NODE_OPTIONS: '' }
  return execFileSync(process.execPath, [script, shape, `--folder=${folder}`, ...args], {
    encoding: 'utf8',
    env,
  }).trim()
}

/** Tokens that each expert got, by layer with experts. */
async function loads(directory: string): Promise<{ ffn: number[]; others: number }[]> {
  const model = await loadModel(directory, { device: 'cpu', contextLength: TOKENS + 1 })
  const { vocabSize, ffnExperts, experts } = model.config
  const tokens = Array.from({ length: TOKENS }, (_, p) => tokenAt(0, p, vocabSize))
  const { routing } = await model.generate(tokens, { maxNewTokens: 1, routing: true })
  await model.close()
  return routing!.layers.map(({ expertIndices }) => {
    const counts = new Array<number>(experts).fill(0)
    for (const expert of expertIndices) counts[expert]!++
    return {
      ffn: counts.slice(0, ffnExperts),
      others: counts.slice(ffnExperts).reduce((a, b) => a + b, 0),
    }
  })
}

const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0)

// 8 FFN experts and 4 others: 2 tau 8 / (tau 8 + 4) FFN experts per token.
for (const [tau, expected] of [
  [0.75, 1.2],
  [0.1, 1 / 3],
] as const) {
  t.test(`tau ${tau} in all of 24 layers`, async t => {
    const layers = await loads(synthetic(t.testdir(), `--tau=${tau}`, '--layers=24'))
    t.equal(layers.length, 24)
    const measured = layers.map(({ ffn }) => sum(ffn) / TOKENS)
    const mean = sum(measured) / 24
    t.ok(Math.abs(mean / expected - 1) < 0.03, `mean ${mean}, expected ${expected}`)
    for (const [layer, each] of measured.entries()) {
      // Four deviations of the count of 3000 tokens with two picks, beside what is wrong by nature.
      const noise = 4 * Math.sqrt(2 / TOKENS) * Math.sqrt((expected / 2) * (1 - expected / 2))
      t.ok(Math.abs(each - expected) < noise + 0.03 * expected, `layer ${layer}: ${each}`)
    }
    const skews = layers.map(({ ffn }) => Math.max(...ffn) / (sum(ffn) / ffn.length))
    const skew = sum(skews) / 24
    t.ok(skew > 1.1 && skew < 1.8, `the busiest expert has ${skew} times the mean`)
  })
}

t.test('the vanilla twin never chooses a zero-computation expert', async t => {
  for (const { ffn, others } of await loads(synthetic(t.testdir(), '--vanilla', '--layers=24'))) {
    t.equal(sum(ffn), 2 * TOKENS)
    t.equal(others, 0)
    t.ok(Math.min(...ffn) > 0)
  }
})

// 16 FFN experts, 4 picks. Of 8 zero experts, half of the picks; of 16 with tau 0.25, a fifth. Of
// LongCat's 8 identity experts, a third. GLM's first layer has no experts.
for (const [shape, args, expected, sparse] of [
  ['tiny-qwen3', ['--zero=8'], 2, 8],
  ['tiny-qwen3', ['--zero=16', '--tau=0.25'], 0.8, 8],
  ['tiny-glm', ['--zero=8'], 2, 7],
  ['tiny-longcat', [], 8 / 3, 8],
] as const) {
  const title = [shape, ...args].join(' ')
  t.test(`${title}: ${expected.toFixed(2)} FFN experts in each layer`, async t => {
    const layers = await loads(made(shape, t.testdir(), '--layers=8', ...args))
    t.equal(layers.length, sparse)
    for (const [layer, { ffn, others }] of layers.entries()) {
      t.equal(sum(ffn) + others, 4 * TOKENS)
      const share = expected / 4
      const noise = 4 * Math.sqrt(4 / TOKENS) * Math.sqrt(share * (1 - share))
      const each = sum(ffn) / TOKENS
      t.ok(Math.abs(each - expected) < noise + 0.03 * expected, `layer ${layer}: ${each}`)
      t.ok(Math.min(...ffn) > 0)
    }
  })
}

for (const [shape, family, topK] of [
  ['tiny-qwen3', 'qwen3-moe', 4],
  ['tiny-mixtral', 'mixtral', 2],
  ['tiny-glm', 'glm4-moe-lite', 4],
  ['tiny-longcat', 'longcat-flash', 4],
] as const) {
  t.test(`${shape} without zero-computation experts is ${family}`, async t => {
    const directory = made(shape, t.testdir(), '--vanilla')
    t.equal((await inspectCheckpoint(directory)).config.family, family)
    for (const { ffn, others } of await loads(directory)) {
      t.equal(sum(ffn), topK * TOKENS)
      t.equal(others, 0)
      t.ok(Math.min(...ffn) > 0)
    }
  })
}

t.test('shapes of full size are the published ones', async t => {
  const { SHAPES, config, makeup } = await import(
    join(root, 'bench', 'synthetic-shapes.mjs' as string)
  )
  // Parameters of the published models in billions. LongCat-Flash-Lite has 31.4 more in tables.
  for (const [name, billions, options] of [
    ['qwen3-30b-a3b', 30.5, {}],
    ['qwen3-30b-a3b', 30.5, { zero: 64 }],
    ['mixtral-8x7b', 46.7, {}],
    ['glm-4.7-flash', 29.9, {}],
    ['glm-4.7-flash', 29.9, { zero: 32 }],
    ['longcat-flash-lite', 37.1, {}],
  ] as const) {
    const shape = makeup(SHAPES[name], { zero: 0, vanilla: false, ...options })
    const tensors = storedTensors(describeModel(config(shape), name))
    const count = sum(tensors.map(({ shape }) => shape.reduce((a, b) => a * b, 1)))
    t.ok(Math.abs(count / 1e9 - billions) < 0.05, `${name}: ${count}`)
  }
})

t.test('the same arguments give the same bytes', async t => {
  const digest = (directory: string) =>
    createHash('sha256')
      .update(readFileSync(join(directory, 'model.safetensors')))
      .digest('hex')
  const folder = t.testdir({ a: {}, b: {} })
  const first = digest(synthetic(join(folder, 'a')))
  t.equal(digest(synthetic(join(folder, 'b'))), first)
  t.not(digest(synthetic(join(folder, 'b'), '--tau=0.5')), first)
})
