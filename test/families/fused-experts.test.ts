/** Experts in one tensor, as transformers 5 holds them: the bits of one tensor for each expert. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { convertCheckpoint } from '../../lib/convert/convert.js'
import { loadModel } from '../../lib/index.js'
import { safetensorsBytes } from '../checkpoint/files.js'
import { type Family, goldenCase, readGolden } from '../support/golden.js'
import { loadGroup } from '../support/group.js'

interface Stored {
  readonly shape: number[]
  readonly bytes: Buffer
}
type Tensors = Map<string, Stored>

/** A case of f32 weights in one file. */
function read(directory: string): Tensors {
  const file = readGolden(join(directory, 'model.safetensors'))
  return new Map(
    file.names.map(name => {
      const { shape, data } = file.values(name)
      return [name, { shape: [...shape], bytes: Buffer.from(data.buffer) }]
    }),
  )
}

function write(directory: string, config: Buffer, tensors: Tensors): string {
  const header: Record<string, object> = {}
  let start = 0
  for (const [name, { shape, bytes }] of tensors) {
    const end = start + bytes.length
    header[name] = { dtype: 'F32', shape, data_offsets: [start, end] }
    start = end
  }
  const data = Buffer.concat([...tensors.values()].map(({ bytes }) => bytes))
  mkdirSync(directory)
  writeFileSync(join(directory, 'model.safetensors'), safetensorsBytes(header, data))
  writeFileSync(join(directory, 'config.json'), config)
  return directory
}

const EXPERT = /^(.*\.)(mlp|block_sparse_moe)\.experts\.\d+\.(\w+?)(_proj)?\.weight$/
const GATE_UP = ['gate', 'up', 'w1', 'w3']

/** Sets the experts' matrices one behind the other: gate above up, in one tensor for each layer. */
function fuse(tensors: Tensors): Tensors {
  const fused: Tensors = new Map()
  for (const [name, tensor] of tensors) {
    const [, layer, , matrix] = EXPERT.exec(name) ?? []
    if (matrix === undefined || matrix === 'wg') {
      fused.set(name.replace('block_sparse_moe.gate', 'mlp.gate'), tensor)
      continue
    }
    const isGateUp = GATE_UP.includes(matrix)
    const key = `${layer}mlp.experts.${isGateUp ? 'gate_up_proj' : 'down_proj'}`
    const before = fused.get(key)
    const bytes = Buffer.concat([...(before ? [before.bytes] : []), tensor.bytes])
    const [rows, columns] = tensor.shape as [number, number]
    const all = bytes.length / 4 / columns
    const expertRows = isGateUp ? 2 * rows : rows
    fused.set(key, { shape: [all / expertRows, expertRows, columns], bytes })
  }
  return fused
}

/** Expert by expert, and gate before up in each. */
function inOrder(tensors: Tensors): Tensors {
  const rank = (name: string) => {
    const [, layer, , matrix] = EXPERT.exec(name) ?? []
    const expert = /experts\.(\d+)/.exec(name)?.[1] ?? ''
    return matrix ? [layer, expert.padStart(3, '0'), GATE_UP.indexOf(matrix)].join(' ') : name
  }
  return new Map([...tensors].sort(([a], [b]) => (rank(a) < rank(b) ? -1 : 1)))
}

async function logits(directory: string): Promise<Float32Array> {
  await using model = await loadModel(directory, { device: 'cpu', threads: 2, kvCacheTokens: 64 })
  return (await model.forward([1, 2, 3, 4, 5])).logits
}

async function groupLogits(directory: string): Promise<Float32Array> {
  await using group = await loadGroup(directory, 2, { kvCacheTokens: 64 })
  return (await group.model.forward([1, 2, 3, 4, 5])).logits
}

const CASES: [family: Family, name: string][] = [
  ['qwen3_moe', 'dense-mixed'],
  ['qwen3_moe_plus_plus', 'constant'],
  ['mixtral', 'sliding-headdim'],
]

for (const [family, name] of CASES) {
  t.test(`${family}/${name}`, async t => {
    const source = goldenCase(name, family)
    const config = readFileSync(join(source, 'config.json'))
    const fused = fuse(inOrder(read(source)))
    t.ok(fused.size < read(source).size)
    const whole = write(join(t.testdir(), 'fused'), config, fused)
    t.same(await logits(whole), await logits(source), 'f32')

    const packed = join(t.testdirName, 'packed')
    const packedFused = join(t.testdirName, 'packed-fused')
    await convertCheckpoint(source, packed, { dtype: 'int8' })
    await convertCheckpoint(whole, packedFused, { dtype: 'int8' })
    t.same(await logits(packedFused), await logits(packed), 'converted to int8')
    for (const directory of [whole, packedFused])
      t.same(await groupLogits(directory), await logits(directory), 'each rank takes a part')

    const [key, { shape, bytes }] = [...fused].find(([key]) => key.endsWith('gate_up_proj'))!
    const [experts, rows, columns] = shape as [number, number, number]
    fused.set(key, { shape: [experts, columns, rows], bytes })
    const wrong = write(join(t.testdirName, 'wrong'), config, fused)
    await t.rejects(logits(wrong), {
      code: 'ERR_BAD_WEIGHTS',
      message: /gate_up_proj: weight is \[/,
    })
  })
}
