/** Copies of KV cache pages that a step brings: made in their order, before its ops write. */
import t from 'tap'
import { loadBinding } from '../../lib/addon/binding.js'
import { ProgramBuilder } from '../../lib/program/builder.js'
import { ropeStore, ropeTable } from '../../lib/program/ops.js'

const D = 8
const S = 16
const PAGES = 4

/**
 * One head's queries, keys and values, stored in layer 0: a key's and a value's first element is
 * its x (rotation by 0).
 */
function storing() {
  const p = new ProgramBuilder()
  const step = {
    positions: p.input('positions', 'i32', ['T']),
    sequenceStarts: p.input('sequence_starts', 'i32', ['B+1']),
    pageTable: p.input('page_table', 'i32', ['B', 'M']),
  }
  const frequencies = p.input('frequencies', 'f32', ['B', D / 2])
  const rotary = ropeTable(p, 'rope', { ...step, frequencies, positionDivisor: 1 })
  const qkv = p.input('qkv', 'f32', ['T', 3 * D])
  return p.finish([ropeStore(p, 'store', { qkv, rotary, step, layer: 0, heads: 1, headDim: D })])
}

/** Stores `values` from position `first` on in a page. */
function step(page: number, first: number, values: readonly number[]) {
  const T = values.length
  return {
    sizes: { T, R: 0, B: 1, M: 1 },
    inputs: {
      positions: Int32Array.from(values, (_, i) => first + i),
      sequence_starts: Int32Array.of(0, T),
      page_table: Int32Array.of(page),
      frequencies: new Float32Array(D / 2),
      qkv: Float32Array.from({ length: T * 3 * D }, (_, i) => values[Math.floor(i / (3 * D))]!),
    },
  }
}

t.test('copies come first, in order', async t => {
  const { Device } = loadBinding()
  const device = new Device('cpu', { threads: 2 })
  const program = await device.compile(storing())
  const shape = {
    layers: 1,
    pages: PAGES,
    pageSize: S,
    kvHeads: 1,
    keyDim: D,
    valueDim: D,
    dtype: 'f32',
  } as const
  const cache = device.kvCache(shape)
  /** The first elements of a page's keys and values, which must agree. */
  const stored = (page: number) => {
    const bytes = cache.readPage(0, page)
    const keys = Array.from({ length: S }, (_, s) => bytes[s * D]!)
    t.same(
      Array.from({ length: S }, (_, s) => bytes[(S + s) * D]!),
      keys,
    )
    return keys
  }
  const filled = (values: readonly number[]) => Array.from({ length: S }, (_, i) => values[i] ?? 0)

  await program.run({ ...step(0, 0, [1, 2, 3, 4, 5]), cache })
  await program.run({ ...step(1, 3, [40, 50]), cache, copies: Int32Array.of(0, 1) })
  t.same(stored(0), filled([1, 2, 3, 4, 5]), 'the source is as it was')
  t.same(stored(1), filled([1, 2, 3, 40, 50]), 'the copy, then what the step writes')
  await program.run({ ...step(0, 0, [6]), cache, copies: Int32Array.of(1, 2, 2, 3, 0, 2) })
  t.same(stored(3), filled([1, 2, 3, 40, 50]))
  t.same(stored(2), filled([1, 2, 3, 4, 5]), 'before the step writes to the source')
  t.same(stored(0), filled([6, 2, 3, 4, 5]))

  const fails = (copies: unknown, more: object) =>
    t.rejects(
      async () => program.run({ ...step(0, 0, [1]), copies: copies as Int32Array, cache, ...more }),
      {
        message: /copies|copying/,
      },
    )
  await fails(Int32Array.of(0, PAGES), {})
  await fails(Int32Array.of(-1, 0), {})
  await fails(Int32Array.of(1), {})
  await fails([0, 1], {})
  t.same(stored(0), filled([6, 2, 3, 4, 5]))
  await program.close()
  cache.close()
  device.close()
})
