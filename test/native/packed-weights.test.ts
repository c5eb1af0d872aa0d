/** Packed weights through the binding: a file written and mapped gives what loading gives. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { loadBinding, type ProgramSpec, type WeightSpec } from '../../lib/addon/binding.js'

const INPUTS = 130
const OUTPUTS = 45

function linear(weight: WeightSpec): ProgramSpec {
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
        attributes: { activation: 0 },
      },
    ],
    outputs: ['y'],
    compute: 'exact',
  }
}

t.test('a packed weight is used from its file', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'moepp-packed-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const stored = join(folder, 'stored')
  const values = Float32Array.from({ length: INPUTS * OUTPUTS }, (_, i) => Math.sin(i * 0.7))
  writeFileSync(stored, values)
  const { Device } = loadBinding()
  const device = new Device('cpu', { threads: 1 })
  const x = Float32Array.from({ length: 3 * INPUTS }, (_, i) => Math.cos(i))
  const run = async (weight: WeightSpec) => {
    const program = await device.compile(linear(weight))
    const { y } = await program.run({ sizes: { T: 3, R: 0, B: 1, M: 0 }, inputs: { x } })
    await program.close()
    return y
  }
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
