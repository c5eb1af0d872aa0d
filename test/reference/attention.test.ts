/**
 * The attention cases of the golden data: a left-padded batch (here ragged, without padding), then
 * one cached step.
 */
import { join } from 'node:path'
import t from 'tap'
import { parseConfig } from '../../lib/config.js'
import { RopeFrequencies } from '../../lib/model/frequencies.js'
import { selfAttention } from '../../lib/model/moepp.js'
import { ModelWeights } from '../../lib/model/weights.js'
import { ropeTable } from '../../lib/program/ops.js'
import { difference, golden, readGolden, readJson, type Tolerance } from '../support/golden.js'
import { devices, runProgram } from '../support/one-program.js'

const PAGE = 16

/** The rows [first, T) of each batch row of a [B, T, ...] tensor, one after another. */
function realRows(
  data: ArrayLike<number>,
  starts: readonly number[],
  length: number,
  width: number,
): Float32Array {
  const rows: number[] = []
  starts.forEach((start, b) => {
    for (let t = start; t < length; t++) {
      for (let i = 0; i < width; i++) rows.push(data[(b * length + t) * width + i]!)
    }
  })
  return Float32Array.from(rows)
}

for (const name of ['attention_mha', 'attention_gqa']) {
  for (const isa of devices()) {
    for (const dtype of ['f32', 'bf16'] as const) {
      t.test(`${name} on ${isa}, ${dtype} cache`, async t => {
        const { params, tolerance } = readJson<{
          params: Record<string, unknown>
          tolerance: Tolerance
        }>(join(golden, 'layers', `${name}.json`))
        const data = await readGolden(join(golden, 'layers', `${name}.safetensors`))
        const c = parseConfig(params, name)
        const rope = new RopeFrequencies(c)
        const [B, T, H] = data.values('input').shape as [number, number, number]
        const mask = data.values('attention_mask').data
        const starts = Array.from({ length: B }, (_, b) =>
          mask.subarray(b * T, b * T + T).indexOf(1),
        )
        const lengths = starts.map(start => T - start)
        const offsets = [0]
        for (const length of lengths) offsets.push(offsets.at(-1)! + length)
        const step = (positions: number[], sequenceStarts: number[], x: Float32Array) => ({
          sizes: { T: positions.length, B, M: 1 },
          inputs: {
            x,
            positions: Int32Array.from(positions),
            sequence_starts: Int32Array.from(sequenceStarts),
            page_table: Int32Array.from({ length: B }, (_, b) => b),
            frequencies: rope.rows(new Int32Array(B).fill(rope.variant(T))),
          },
        })
        const prefill = step(
          lengths.flatMap(length => Array.from({ length }, (_, i) => i)),
          offsets,
          realRows(data.values('input').data, starts, T, H),
        )
        const decode = step(
          lengths,
          Array.from({ length: B + 1 }, (_, b) => b),
          data.values('step_input').data as Float32Array,
        )
        const pages: Float32Array[] = []
        const results = await runProgram(
          p => {
            const buffers = {
              positions: p.input('positions', 'i32', ['T']),
              sequenceStarts: p.input('sequence_starts', 'i32', ['B+1']),
              pageTable: p.input('page_table', 'i32', ['B', 'M']),
            }
            const frequencies = p.input('frequencies', 'f32', ['B', c.headDim / 2])
            const rotary = ropeTable(p, 'rope', { ...buffers, frequencies, positionDivisor: 1 })
            const stored = new Map(
              [...data.tensors].map(([key, tensor]) => [`model.layers.0.self_attn.${key}`, tensor]),
            )
            const x = p.input('x', 'f32', ['T', H])
            return [selfAttention(p, new ModelWeights(p, stored, 'f32'), c, 0, x, buffers, rotary)]
          },
          [prefill, decode],
          {
            isa,
            cache: {
              layers: 1,
              pages: B,
              pageSize: PAGE,
              kvHeads: c.kvHeads,
              keyDim: c.headDim,
              valueDim: c.headDim,
              dtype,
            },
          },
          cache => {
            for (let b = 0; b < B; b++) pages.push(cache.readPage(0, b))
          },
        )
        if (dtype === 'f32') {
          const want = realRows(data.values('output').data, starts, T, H)
          t.equal(
            difference(results[0]!['layers.0.attention.o.out']!, want, tolerance),
            '',
            'output',
          )
          const wantStep = data.values('step_output').data
          t.equal(
            difference(results[1]!['layers.0.attention.o.out']!, wantStep, tolerance),
            '',
            'step_output',
          )
        }
        // A bf16 cache rounds keys and values to 8 bits; what that does to the output is bounded in
        // the native tests.
        const allowed = dtype === 'f32' ? tolerance : { atol: tolerance.atol, rtol: 2 ** -8 }
        const D = c.headDim
        for (const [index, which] of ['keys', 'values'].entries()) {
          const wanted = data.values(which).data // [B, KV, T, D]
          for (let b = 0; b < B; b++) {
            for (let head = 0; head < c.kvHeads; head++) {
              const first = (head * 2 + index) * PAGE * D
              const got = pages[b]!.subarray(first, first + lengths[b]! * D)
              const at = ((b * c.kvHeads + head) * T + starts[b]!) * D
              t.equal(
                difference(got, wanted.subarray(at, at + lengths[b]! * D), allowed),
                '',
                `${which} of row ${b}, head ${head}`,
              )
            }
          }
        }
      })
    }
  }
}
