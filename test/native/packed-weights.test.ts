/** Packed weights through the binding: a file written and mapped gives what loading gives. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import {
  loadBinding,
  type NativeDevice,
  type ProgramSpec,
  type WeightSpec,
} from '../../lib/addon/binding.js'

const INPUTS = 130
const OUTPUTS = 45

/** With twice as many rows of the weight as outputs, those are gate and up rows. */
function linear(weight: WeightSpec): ProgramSpec {
  const swiglu = weight.shape[0] === 2 * OUTPUTS
  return {
    buffers: [
      { name: 'x', dtype: 'f32', shape: ['T', INPUTS] },
      { name: 'y', dtype: 'f32', shape: ['T', OUTPUTS] },
    ],
    weights: [weight],
    ops: [
      {
        op: 'linear',
        label: 'linear',
        tensors: { x: 'x', weight: weight.name, out: 'y' },
        attributes: { activation: swiglu ? 2 : 0 },
      },
    ],
    lookups: [],
    inputs: ['x'],
    outputs: ['y'],
    compute: 'exact',
  }
}

/** y of three rows of x. */
async function product(device: NativeDevice, weight: WeightSpec): Promise<Float32Array> {
  const x = Float32Array.from({ length: 3 * INPUTS }, (_, i) => Math.cos(i))
  const program = await device.compile(linear(weight))
  const { y } = await program.run({ sizes: { T: 3, R: 0, B: 1, M: 0 }, inputs: { x } })
  await program.close()
  return y as Float32Array
}

t.test('a packed weight is used from its file', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'moepp-packed-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const stored = join(folder, 'stored')
  const values = Float32Array.from({ length: 2 * INPUTS * OUTPUTS }, (_, i) => Math.sin(i * 0.7))
  writeFileSync(stored, values)
  const { Device } = loadBinding()
  const device = new Device('cpu', { threads: 1 })
  const run = (weight: WeightSpec) => product(device, weight)
  t.match(loadBinding().packedLayout.name, /^panels32-.*-v\d+$/)
  for (const dtype of ['int8', 'int4'] as const) {
    const part = {
      name: 'w',
      dtype: 'f32',
      shape: [OUTPUTS, INPUTS],
      file: stored,
      byteOffset: 0,
      byteLength: 4 * INPUTS * OUTPUTS,
    } as const
    const weight: WeightSpec = { name: 'w', dtype, shape: [OUTPUTS, INPUTS], parts: [part] }
    const file = join(folder, dtype)
    const entry = { weight, layout: 'matrix', byteOffset: 64 } as const
    await device.writePacked(file, new Uint8Array(10), [entry])
    const byteLength = device.weightBytes(weight, 'matrix')
    const packed = {
      ...weight,
      parts: [{ ...part, dtype, file, byteOffset: 64, byteLength, packed: 'matrix' as const }],
    }
    t.same(await run(packed), await run(weight), dtype)
    await t.rejects(device.writePacked(file, new Uint8Array(10), [entry]), {
      code: 'ERR_CANNOT_WRITE',
    })
    await t.rejects(
      run({ ...packed, parts: [{ ...packed.parts[0], byteOffset: 96 }] } as WeightSpec),
      {
        code: 'ERR_BAD_WEIGHTS',
        message: 'w: packed at byte 96, expected a multiple of 64',
      },
    )
    t.throws(() => device.weightBytes(weight, 'rows'), {
      message: 'w: int8 and int4 weights are in panels',
    })
  }
  device.close()
})

t.test('gate and up rows of a dense layer, packed', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'moepp-packed-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'stored')
  const values = Float32Array.from({ length: 2 * INPUTS * OUTPUTS }, (_, i) => Math.sin(i * 0.7))
  writeFileSync(file, values)
  const { Device } = loadBinding()
  const device = new Device('cpu', { threads: 1 })
  const run = (weight: WeightSpec) => product(device, weight)
  const rows = (dtype: 'f32' | 'int8' | 'int4', first: number, count: number): WeightSpec => {
    const shape = [count, INPUTS]
    const byteLength = 4 * INPUTS * count
    const part = { name: 'w', dtype: 'f32', shape, file, byteOffset: 4 * INPUTS * first } as const
    return { name: 'w', dtype, shape, parts: [{ ...part, byteLength }] }
  }
  for (const dtype of ['f32', 'int8', 'int4'] as const) {
    const both = rows(dtype, 0, 2 * OUTPUTS)
    const loaded = await run(both)
    const gate = await run(rows(dtype, 0, OUTPUTS))
    const up = await run(rows(dtype, OUTPUTS, OUTPUTS))
    const worst = loaded.reduce((most, value, i) => {
      const expected = (gate[i]! / (1 + Math.exp(-gate[i]!))) * up[i]!
      return Math.max(most, Math.abs(value - expected) / (1 + Math.abs(expected)))
    }, 0)
    // silu and the products, each a few roundings of f32
    t.ok(worst < 16 * 2 ** -24, `${dtype}: ${worst}`)
    if (dtype === 'f32') continue
    const packed = join(folder, dtype)
    await device.writePacked(packed, new Uint8Array(10), [
      { weight: both, layout: 'gateUp', byteOffset: 64 },
    ])
    const byteLength = device.weightBytes(both, 'gateUp')
    const part = { ...both.parts[0]!, dtype, file: packed, byteOffset: 64, byteLength }
    t.same(await run({ ...both, parts: [{ ...part, packed: 'gateUp' }] }), loaded, dtype)
  }
  device.close()
})
