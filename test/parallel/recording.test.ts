/** A rank records and reads its own FFN experts alone. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { loadBinding, type NativeGroup } from '../../lib/addon/binding.js'
import { openDevice } from '../../lib/addon/device.js'
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { convertCheckpoint } from '../../lib/convert/convert.js'
import { recordModel } from '../../lib/families/record.js'
import { FAMILIES, readModel } from '../../lib/families/registry.js'
import { type LoadOptions, loadModel } from '../../lib/index.js'
import { loadParts } from '../../lib/load/load.js'
import { resolveLoadOptions } from '../../lib/options/generate.js'
import { type ModelSpec, weightBytes } from '../../lib/program/model-spec.js'
import { type Holders, Placement, parsePlacement } from '../../lib/program/placement.js'
import { stackParts } from '../../lib/tensor/stack.js'
import { float8Twins } from '../support/float8.js'
import { goldenCase, root } from '../support/golden.js'
import { loadGroup } from '../support/group.js'

const BOOKS = join(root, 'models', 'books-7m')
const place = { file: 'f', byteOffset: 1000 }

t.test('entries of a stack, by hand', async t => {
  const tensor = { ...place, dtype: 'bf16', shape: [5, 2, 3], byteLength: 60 } as const
  t.same(stackParts(tensor), [tensor])
  t.same(stackParts(tensor, [1, 2, 4]), [
    { ...tensor, shape: [2, 2, 3], byteOffset: 1012, byteLength: 24 },
    { ...tensor, shape: [1, 2, 3], byteOffset: 1048, byteLength: 12 },
  ])
  // Columns beside each other, as torch's views have them: 9 elements from an entry to the next.
  const strided = { ...tensor, shape: [3, 2, 3], strides: [9, 1, 2], byteLength: 48 }
  t.same(stackParts(strided, [2]), [
    { ...strided, shape: [1, 2, 3], byteOffset: 1036, byteLength: 12 },
  ])
  const scale = {
    ...place,
    name: 's',
    dtype: 'f32',
    shape: [4, 2, 1],
    byteLength: 32,
    byteOffset: 0,
  } as const
  const codes = { ...place, dtype: 'float8', shape: [4, 129, 8], byteLength: 4128, scale } as const
  t.same(stackParts(codes, [3]), [
    {
      ...codes,
      shape: [1, 129, 8],
      byteOffset: 1000 + 3 * 1032,
      byteLength: 1032,
      scale: { ...scale, shape: [1, 2, 1], byteOffset: 24, byteLength: 8 },
    },
  ])
  const packed = {
    ...place,
    dtype: 'int8',
    shape: [3, 40, 100],
    packed: 'matrix',
    byteLength: 3 * 8320,
  } as const
  t.same(stackParts(packed, [1, 2]), [
    { ...packed, shape: [2, 40, 100], byteOffset: 1000 + 8320, byteLength: 2 * 8320 },
  ])
})

async function recorded(directory: string, placement?: Placement): Promise<ModelSpec> {
  const checkpoint = await openCheckpoint(directory)
  return recordModel(await readModel(directory), checkpoint, 'exact', placement)
}

const expertParts = ({ weights }: ModelSpec) =>
  weights.filter(({ kind }) => kind === 'ffnExperts').flatMap(({ parts }) => parts)

t.test('each expert is read by one rank', async t => {
  const whole = await recorded(BOOKS)
  const names = (spec: ModelSpec) => expertParts(spec).map(({ name }) => name)
  for (const size of [1, 2, 3, 8]) {
    const ranks = await Promise.all(
      Array.from({ length: size }, (_, rank) => recorded(BOOKS, new Placement(rank, size))),
    )
    t.same(ranks.flatMap(names).sort(), names(whole).sort(), `${size} ranks`)
    const other = weightBytes(whole) - 8 * expertBytes(whole, 8)
    for (const [rank, spec] of ranks.entries()) {
      const held = Math.ceil(((rank + 1) * 8) / size) - Math.ceil((rank * 8) / size)
      t.equal(weightBytes(spec), other + held * expertBytes(whole, 8))
    }
  }
})

/** Of one of `experts` experts, all layers together. */
function expertBytes({ weights }: ModelSpec, experts: number): number {
  const own = weights.filter(({ kind }) => kind === 'ffnExperts')
  return weightBytes({ weights: own } as never) / experts
}

t.test('of packed experts a rank maps its own', async t => {
  const packed = join(t.testdir(), 'int4')
  await convertCheckpoint(BOOKS, packed, { dtype: 'int4' })
  const bytes = (spec: ModelSpec) => expertParts(spec).reduce((sum, p) => sum + p.byteLength, 0)
  const whole = bytes(await recorded(packed))
  const ranks = await Promise.all(
    [0, 1, 2].map(async rank => bytes(await recorded(packed, new Placement(rank, 3)))),
  )
  t.same(ranks, [(3 * whole) / 8, (3 * whole) / 8, (2 * whole) / 8])
  await using alone = await loadModel(packed, { device: 'cpu', threads: 1 })
  await using group = await loadGroup(packed, 3)
  const tokens = alone.tokenizer.encode('The old man')
  t.same(await group.model.forward(tokens), await alone.forward(tokens))
})

t.test('packed experts that are no neighbours are copied', async t => {
  const folder = t.testdir()
  const packed = join(folder, 'int4')
  await convertCheckpoint(BOOKS, packed, { dtype: 'int4' })
  // Rank 0 has two runs of neighbours, rank 1 has four, and rank 2 has all experts as one.
  const experts: Holders = [[0, 2], [1, 2], [0, 2], [1, 2], [2], [1, 2], [2], [1, 2]]
  const file = { ranks: 3, layers: [0, 1, 2, 3, 4, 5].map(layer => ({ layer, experts })) }
  const layers = parsePlacement(file, 'file', 3)
  for (const [rank, runs] of [2, 4, 1].entries()) {
    const parts = expertParts(await recorded(packed, new Placement(rank, 3, layers)))
    t.equal(parts.length, 6 * 2 * runs, `rank ${rank}`)
  }
  const placement = join(folder, 'placement.json')
  writeFileSync(placement, JSON.stringify(file))
  await using alone = await loadModel(packed, { device: 'cpu', threads: 1 })
  await using group = await loadGroup(packed, 3, { placement })
  const tokens = alone.tokenizer.encode('The old man and the sea')
  t.same(await group.model.forward(tokens), await alone.forward(tokens))
})

t.test('float8 with its scales', async t => {
  const source = goldenCase('sliding-headdim', 'mixtral')
  const { float8 } = await float8Twins(source, t.testdir(), 'F32')
  await using alone = await loadModel(float8, { device: 'cpu', threads: 1 })
  await using group = await loadGroup(float8, 3)
  t.same(await group.model.forward([1, 2, 3]), await alone.forward([1, 2, 3]))
})

t.test('ranks that share cores share them out', async t => {
  const { threads } = openDevice('cpu').info()
  const options = { parallel: 'mpi', parallelDeadlineMs: 20_000 } as const
  const load = (group: NativeGroup, own: LoadOptions) =>
    loadParts(BOOKS, resolveLoadOptions({ ...options, ...own }), FAMILIES, undefined, group)
  for (const [own, expected] of [
    [{}, Math.max(1, Math.floor(threads / 2))],
    [{ threads: 3 }, 3],
  ] as const) {
    const groups = loadBinding().localGroups(2, 20_000)
    const parts = await Promise.all(groups.map(group => load(group, own)))
    for (const { runner, lockstep } of parts) {
      t.equal(runner.info().device.threads, expected)
      lockstep!.begin()
    }
    await Promise.all(parts.map(({ runner }) => runner.close()))
  }
})

t.test('picks go to the own rank, or are shared by copies', async t => {
  const layers = new Map([[4, [[0], [1, 2], [2], [0, 1, 2, 3], [3]]]])
  const share = (rank: number) => new Placement(rank, 4, layers).share(4, 5)
  t.same(share(0), { ranks: 4, destinations: [0, 1, 2, 0, 3], held: [0, 3] })
  t.same(share(1), { ranks: 4, destinations: [0, 1, 2, 1, 3], held: [1, 3] })
  t.same(share(3), { ranks: 4, destinations: [0, 2, 2, 3, 3], held: [3, 4] })
  t.throws(() => new Placement(0, 4, layers).share(3, 5), { code: 'ERR_BAD_FILE' })
  t.throws(() => new Placement(0, 6).share(3, 5), {
    code: 'ERR_UNSUPPORTED',
    message: 'layers.3: 5 FFN experts for 6 ranks, expected a rank at most for each expert',
  })
})
