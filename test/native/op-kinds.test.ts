/** Kinds of ops through their builder functions: fields that a recorded program may leave out. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { ProgramBuilder } from '../../lib/program/builder.js'
import { attention, linear, ropeStore, ropeTable } from '../../lib/program/ops.js'
import { devices } from '../support/devices.js'
import { runProgram } from '../support/one-program.js'

const T = 5
const D = 8
const DV = 4
const S = 16
const HEADS = 2
const COLUMNS = HEADS * D + D + DV

const folder = mkdtempSync(join(tmpdir(), 'moepp-kinds-'))
t.teardown(() => rmSync(folder, { recursive: true }))

/** An f32 weight of the values sin(seed + i). */
function weight(p: ProgramBuilder, name: string, shape: readonly number[], seed: number) {
  const values = valuesOf(shape, seed)
  const file = join(folder, name)
  writeFileSync(file, values)
  const part = { name, dtype: 'f32', shape, file, byteOffset: 0, byteLength: values.byteLength }
  return p.weight({ name, dtype: 'f32', shape, parts: [{ ...part, dtype: 'f32' }] })
}

const valuesOf = (shape: readonly number[], seed: number) =>
  Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(seed + i))

/** The largest difference, relative to 1 and the expected value. */
const worst = (actual: ArrayLike<number>, expected: readonly number[]) =>
  expected.reduce((most, e, i) => Math.max(most, Math.abs(actual[i]! - e) / (1 + Math.abs(e))), 0)

t.test('rotation and attention', async t => {
  const eps = 1e-3
  const magnitude = 1.25
  const pairs = 3
  const frequencies = Float32Array.of(1, 0.5, 0.25)
  const qkv = valuesOf([T, COLUMNS], 0.3)
  for (const isa of devices()) {
    const [result] = await runProgram(
      p => {
        const step = {
          positions: p.input('positions', 'i32', ['T']),
          sequenceStarts: p.input('sequence_starts', 'i32', ['B+1']),
          pageTable: p.input('page_table', 'i32', ['B', 'M']),
        }
        const rotary = ropeTable(p, 'rope', {
          ...step,
          frequencies: p.input('frequencies', 'f32', ['B', pairs]),
          positionDivisor: 1,
          magnitude,
        })
        const norms = { q: weight(p, 'qn', [D], 1), k: weight(p, 'kn', [D], 2), eps }
        const q = ropeStore(p, 'store', {
          qkv: p.input('qkv', 'f32', ['T', COLUMNS]),
          rotary,
          step,
          layer: 0,
          heads: HEADS,
          headDim: D,
          norms,
          interleaved: true,
        })
        return [q, attention(p, 'a', { q, step, layer: 0, scale: 1, window: 1, valueDim: DV })]
      },
      [
        {
          sizes: { T, B: 1, M: 1 },
          inputs: {
            positions: Int32Array.from({ length: T }, (_, i) => i),
            sequence_starts: Int32Array.of(0, T),
            page_table: Int32Array.of(0),
            frequencies,
            qkv,
          },
        },
      ],
      {
        isa,
        cache: {
          layers: 1,
          pages: 1,
          pageSize: S,
          kvHeads: 1,
          keyDim: D,
          valueDim: DV,
          dtype: 'f32',
        },
      },
    )
    const norm = valuesOf([D], 1)
    const expected: number[] = []
    for (let token = 0; token < T; token++) {
      for (let head = 0; head < HEADS; head++) {
        const u = qkv.subarray(token * COLUMNS + head * D, token * COLUMNS + (head + 1) * D)
        const rms = Math.sqrt(u.reduce((sum, x) => sum + x * x, 0) / D + eps)
        const normed = Array.from(u, (x, i) => (x / rms) * norm[i]!)
        const rotated = [...normed]
        for (let j = 0; j < pairs; j++) {
          const [a, b] = [normed[2 * j]!, normed[2 * j + 1]!]
          const [c, s] = [Math.cos, Math.sin].map(f => magnitude * f(token * frequencies[j]!))
          rotated[j] = a * c! - b * s!
          rotated[j + pairs] = b * c! + a * s!
        }
        expected.push(...rotated)
      }
    }
    // A few roundings of f32 each, of numbers up to 4.
    t.ok(worst(result!['store.q']!, expected) < 2 ** -19, `${isa}: normed and rotated queries`)
    const values = Array.from({ length: T * HEADS * DV }, (_, i) => {
      const token = Math.floor(i / (HEADS * DV))
      return qkv[token * COLUMNS + HEADS * D + D + (i % DV)]!
    })
    t.same(Array.from(result!['a.out']!), values, `${isa}: a window of one key gives its value`)
  }
})

t.test('linear with a bias', async t => {
  const x = valuesOf([T, 6], 0.1)
  const [w, b] = [valuesOf([7, 6], 3), valuesOf([7], 4)]
  const expected = Array.from({ length: T * 7 }, (_, i) => {
    const [token, row] = [Math.floor(i / 7), i % 7]
    let sum = b[row]!
    for (let k = 0; k < 6; k++) sum += x[token * 6 + k]! * w[row * 6 + k]!
    return sum
  })
  for (const isa of devices()) {
    const [result] = await runProgram(
      p => {
        const input = p.input('x', 'f32', ['T', 6])
        const bias = weight(p, 'b', [7], 4)
        return [linear(p, 'l', { x: input, weight: weight(p, 'w', [7, 6], 3), bias })]
      },
      [{ sizes: { T }, inputs: { x } }],
      { isa },
    )
    t.ok(worst(result!['l.out']!, expected) < 2 ** -19, isa)
  }
})
