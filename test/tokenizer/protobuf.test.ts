/** The reader of protobuf messages, against another implementation's writer. */
import { PbfWriter } from 'pbf'
import t from 'tap'
import { readFields, WIRE_TYPE } from '../../lib/tokenizer/protobuf.js'

const read = (bytes: Uint8Array) => [...readFields(bytes)].map(field => field.value)

t.test('varints', async t => {
  const numbers = [0, 1, 127, 128, 300, 2 ** 31 - 1, 2 ** 32, 2 ** 48 + 3, 2 ** 49 + 1, 2 ** 53 - 1]
  const signed = [...numbers, ...numbers.slice(1).map(number => -number)]
  for (const number of signed) {
    const writer = new PbfWriter()
    writer.writeVarintField(3, number)
    t.same(read(writer.finish()), [number], String(number))
  }
})

t.test('floats, doubles, bytes, and fields with large numbers', async t => {
  const writer = new PbfWriter()
  writer.writeFloatField(2, -1.5)
  writer.writeDoubleField(268435455, Math.PI)
  writer.writeBytesField(16, new Uint8Array([1, 2, 3]))
  writer.writeStringField(1, '')
  const fields = [...readFields(writer.finish())]
  t.same(
    fields.map(({ number, wireType }) => [number, wireType]),
    [
      [2, WIRE_TYPE.fixed32],
      [268435455, WIRE_TYPE.fixed64],
      [16, WIRE_TYPE.bytes],
      [1, WIRE_TYPE.bytes],
    ],
  )
  t.same(fields.map(field => field.value).slice(0, 2), [-1.5, Math.PI])
  t.same([...(fields[2]!.value as Uint8Array)], [1, 2, 3])
  t.equal((fields[3]!.value as Uint8Array).length, 0)
  t.same(
    fields.map(field => field.start),
    [0, 5, 18, 24],
  )
})

t.test('a view into a larger buffer', async t => {
  const larger = new Uint8Array([9, 9, 0x15, 0, 0, 0xc0, 0x3f, 9])
  t.same(read(larger.subarray(2, 7)), [1.5])
})

t.test('no message', async t => {
  const cases: [string, number[], RegExp][] = [
    ['a tag without end', [0x80], /malformed at byte 0: a varint without end/],
    ['eleven bytes of varint', [0x08, ...Array(10).fill(0xff), 1], /a varint without end/],
    ['a float cut off', [0x15, 0, 0, 0], /field 2 at byte 0 ends at 5, expected <= 4/],
    ['a double cut off', [0x11, 0], /field 2 at byte 0 ends at 9, expected <= 2/],
    ['bytes past the end', [0x08, 1, 0x0a, 2, 0], /field 1 at byte 2 ends at 6, expected <= 5/],
    ['a negative length', [0x0a, ...Array(9).fill(0xff), 1], /a length of -1/],
    ['an immense length', [0x0a, ...Array(6).fill(0xff), 0x7f], /ends at \d{15}, expected <= 8/],
    ['a group', [0x0b], /wire type 3/],
    ['field 0', [0x00, 0], /field number 0/],
    ['a negative tag', [...Array(9).fill(0xff), 1], /field number -1/],
  ]
  for (const [name, bytes, message] of cases)
    t.throws(() => read(new Uint8Array(bytes)), message, name)
})
