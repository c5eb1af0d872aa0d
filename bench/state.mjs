// The keys and values of a text in a file (saveState, loadState), against computing them.
//
//   npm run bench -- state [--shape=0.6b] [--tokens=2000] [--dtype=bfloat16] [--rounds=3]
//
// The ceiling of a save is a plain write of as many bytes with fsync, that of a load a plain read.
// Both go through the page cache. All take turns in one run, and the figures are medians.
import {
  closeSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadModel } from '../dist/index.js'
import { MATRIX_TYPES } from '../dist/options/load.js'
import { count, oneOf, readArguments } from './arguments.mjs'
import { synthetic } from './synthetic.mjs'
import { SHAPES } from './synthetic-shapes.mjs'

const KINDS = {
  shape: oneOf(Object.keys(SHAPES)),
  tokens: count,
  dtype: oneOf(MATRIX_TYPES),
  rounds: count,
}
const {
  shape = '0.6b',
  tokens = 2000,
  dtype = 'bfloat16',
  rounds = 3,
} = readArguments(process.argv.slice(2), KINDS)

const folder = mkdtempSync(join(tmpdir(), 'moepp-state-'))
const file = join(folder, 'state')
const open = () => loadModel(synthetic(shape), { dtype, kvCacheTokens: tokens + 64 })
const prompt = Array.from({ length: tokens }, (_, i) => 10 + ((i * 7919) % 1000))
const times = { 'computing all but one': [], save: [], load: [], write: [], read: [] }

async function timed(name, work) {
  const start = performance.now()
  const result = await work()
  times[name].push(performance.now() - start)
  return result
}

function write(bytes) {
  const plain = openSync(join(folder, 'plain'), 'w')
  writeSync(plain, bytes)
  fsyncSync(plain)
  closeSync(plain)
}

let size
for (let round = 0; round < rounds; round++) {
  const first = await open()
  await timed('computing all but one', () =>
    first.generate(prompt.slice(0, -1), { maxNewTokens: 1, ignoreEos: true }),
  )
  const { bytes } = await timed('save', () => first.saveState(file, prompt))
  size = bytes
  await first.close()
  const second = await open()
  await timed('load', () => second.loadState(file))
  const { usage } = await second.generate([...prompt, 10], { maxNewTokens: 1 })
  if (usage.cachedTokens !== tokens) throw new Error(`${usage.cachedTokens} tokens were taken over`)
  await second.close()
  const content = await timed('read', () => readFileSync(file))
  await timed('write', () => write(content))
}
rmSync(folder, { recursive: true })

console.log(`${shape}, ${dtype}, ${tokens} tokens, ${(size / 1e6).toFixed(0)} MB`)
for (const [name, each] of Object.entries(times)) {
  const ms = each.toSorted((a, b) => a - b)[each.length >> 1]
  const rate = name.startsWith('computing') ? '' : `, ${(size / ms / 1e3).toFixed(0)} MB/s`
  console.log(`${name.padEnd(22)} ${ms.toFixed(0).padStart(6)} ms${rate}`)
}
