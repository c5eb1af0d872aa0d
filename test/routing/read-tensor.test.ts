/** Values of stored tensors beside the tests' own reader. */
import { truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { readTensor } from '../../lib/tensor/read-tensor.js'
import type { TensorRef } from '../../lib/tensor/tensor-ref.js'
import { BOOKS, readValues } from '../checkpoint/files.js'
import { goldenCase } from '../support/golden.js'

t.test('every type, of safetensors and of torch files', async t => {
  for (const directory of [
    BOOKS,
    goldenCase('tied-bin'),
    goldenCase('fp16-headdim96'),
    goldenCase('gqa'),
  ]) {
    const { tensors } = await openCheckpoint(directory)
    const maps = [...tensors].filter(([name]) => /gate_map|norm/.test(name)).slice(0, 3)
    t.ok(maps.length > 0)
    for (const [name, ref] of maps)
      t.same([...(await readTensor(ref))], readValues(ref), `${ref.dtype} ${name}`)
  }
})

t.test('strides, and all kinds of half numbers', async t => {
  const file = join(t.testdir(), 'tensor')
  const bits = [
    0x0000, 0x8000, 0x0001, 0x03ff, 0x0400, 0x3c00, 0xbc00, 0x7bff, 0x7c00, 0xfc00, 0x3555, 0x1234,
  ]
  const bytes = Buffer.alloc(2 * bits.length + 3)
  for (const [i, half] of bits.entries()) bytes.writeUInt16LE(half, 3 + 2 * i)
  writeFileSync(file, bytes)
  for (const dtype of ['f16', 'bf16'] as const) {
    const ref: TensorRef = {
      dtype,
      shape: [3, 4],
      strides: [1, 3],
      file,
      byteOffset: 3,
      byteLength: 24,
    }
    t.same([...(await readTensor(ref))], readValues(ref), dtype)
    const plain = await readTensor({ ...ref, shape: [12], strides: [1] })
    if (dtype === 'f16')
      t.same([...plain].slice(0, 10), [
        0,
        -0,
        2 ** -24,
        1023 * 2 ** -24,
        2 ** -14,
        1,
        -1,
        65504,
        Infinity,
        -Infinity,
      ])
  }
  const ref: TensorRef = { dtype: 'bf16', shape: [], file, byteOffset: 13, byteLength: 2 }
  t.same([...(await readTensor(ref))], [0.0078125], '0x3c00')
})

t.test('a file that has become shorter', async t => {
  const file = join(t.testdir(), 'tensor')
  writeFileSync(file, Buffer.alloc(16))
  truncateSync(file, 12)
  const ref: TensorRef = { dtype: 'f32', shape: [4], file, byteOffset: 0, byteLength: 16 }
  const message = /takes bytes 0 to 16, the file has 12/
  await t.rejects(readTensor(ref), { code: 'ERR_BAD_FILE', message })
  await t.rejects(readTensor({ ...ref, file: `${file}.gone` }), { code: 'ERR_NOT_FOUND' })
})
