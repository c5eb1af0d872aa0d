import { join } from 'node:path'
import t from 'tap'
import { readTorchBin } from '../../lib/checkpoint/torch-bin.js'
import { directoryWith, pickleBytes, pickled, readValues, torchZip, zipBytes } from './files.js'

const { dict, global, integer, tensor, text, tuple } = pickled
const root = t.testdir({})
let files = 0

function write(bytes: Buffer): string {
  return join(
    directoryWith(root, `file-${files++}`, { 'pytorch_model.bin': bytes }),
    'pytorch_model.bin',
  )
}

function floats(...values: number[]): Buffer {
  return Buffer.from(Float32Array.from(values).buffer)
}

const six = floats(1, 2, 3, 4, 5, 6)

/** A zip whose state dict holds one tensor `w` of a storage of six floats. */
function oneTensor(options: Partial<Parameters<typeof tensor>[0]>): Buffer {
  return torchZip(pickleBytes(dict(text('w'), tensor({ length: 6, shape: [2, 3], ...options }))), {
    0: six,
  })
}

t.test('views of one storage', async t => {
  const state = dict(
    ...[text('whole'), tensor({ length: 6, shape: [2, 3] })],
    ...[text('transposed'), tensor({ length: 6, shape: [3, 2], strides: [1, 3] })],
    ...[text('column'), tensor({ length: 6, offset: 1, shape: [2], strides: [3] })],
    ...[text('last row'), tensor({ length: 6, offset: 3, shape: [1, 3], strides: [77, 1] })],
    ...[text('scalar'), tensor({ length: 6, offset: 4, shape: [] })],
    ...[text('empty'), tensor({ length: 6, offset: 6, shape: [0, 3] })],
  )
  const { tensors } = await readTorchBin(write(torchZip(pickleBytes(state), { 0: six })))
  const values = Object.fromEntries([...tensors].map(([name, ref]) => [name, readValues(ref)]))
  t.strictSame(values, {
    whole: [1, 2, 3, 4, 5, 6],
    transposed: [1, 4, 2, 5, 3, 6],
    column: [2, 5],
    'last row': [4, 5, 6],
    scalar: [5],
    empty: [],
  })
  t.notOk('strides' in tensors.get('whole')!, 'contiguous: no strides')
  t.notOk('strides' in tensors.get('last row')!, 'the stride of an axis of size 1 does not matter')
  t.strictSame(tensors.get('column')!.strides, [3])
  t.equal(tensors.get('column')!.byteLength, 16, 'two elements three apart')
})

t.test('64-bit zips', async t => {
  const state = pickleBytes(dict(text('w'), tensor({ length: 6, shape: [6] })))
  const { tensors } = await readTorchBin(write(torchZip(state, { 0: six }, { zip64: true })))
  t.strictSame(readValues(tensors.get('w')!), [1, 2, 3, 4, 5, 6])
})

t.test('a zip comment that looks like an end record', async t => {
  const comment = Buffer.from('PK\x05\x06 and more text, so that a whole record would fit in here')
  const zip = oneTensor({})
  zip.writeUInt16LE(comment.length, zip.length - 2)
  t.equal((await readTorchBin(write(Buffer.concat([zip, comment])))).tensors.size, 1)
})

t.test('element types that moepp does not compute with are kept apart', async t => {
  const state = dict(
    ...[text('count'), tensor({ key: 'long', type: 'LongStorage', length: 2, shape: [2] })],
    ...[text('not a tensor'), integer(3)],
  )
  const { tensors, unusable } = await readTorchBin(
    write(torchZip(pickleBytes(state), { long: Buffer.alloc(16) })),
  )
  t.equal(tensors.size, 0)
  t.strictSame([...unusable], [['count', 'torch.LongStorage']])
})

t.test('a pickle that would run something is refused by name', async t => {
  const call = Buffer.concat([
    global('posix', 'system'),
    tuple(text('touch owned')),
    Buffer.from('R'),
  ])
  const cases: [Buffer, RegExp][] = [
    [call, /posix\.system/],
    [Buffer.concat([global('os', 'system'), tuple(text('true')), Buffer.from('R')]), /os\.system/],
    [dict(text('w'), call), /posix\.system/],
    [global('builtins', 'eval'), /builtins\.eval/],
    [global('torch', 'load'), /torch\.load/],
    [global('torch._utils', '_rebuild_parameter'), /torch\._utils\._rebuild_parameter/],
    [global('collections.OrderedDict', '__class__'), /collections\.OrderedDict\.__class__/],
    [Buffer.from('(S"x"\n'), /opcode 0x53/],
    [Buffer.from([0x81]), /opcode 0x81/],
    [Buffer.from([0x93]), /opcode 0x93/],
    [Buffer.from('iposix\nsystem\n'), /opcode 0x69/],
    [
      Buffer.concat([text('f'), tuple(), Buffer.from('R')]),
      /a call of something that is not a global/,
    ],
    [
      Buffer.concat([global('torch', 'FloatStorage'), dict(), Buffer.from('b')]),
      /setting the state/,
    ],
    [Buffer.concat([text('x'), text('k'), text('v'), Buffer.from('s')]), /setting items/],
    [Buffer.concat([text('x'), text('v'), Buffer.from('a')]), /appending/],
  ]
  for (const [body, message] of cases) {
    const path = write(torchZip(pickleBytes(body)))
    await t.rejects(readTorchBin(path), { code: 'ERR_UNSAFE_FILE', message }, String(message))
  }
  const protocol4 = Buffer.concat([Buffer.from([0x80, 4]), dict(), Buffer.from('.')])
  await t.rejects(readTorchBin(write(torchZip(protocol4))), {
    code: 'ERR_UNSAFE_FILE',
    message: /protocol 4/,
  })
})

t.test('the same pickle in the legacy format is refused as well', async t => {
  const magic = Buffer.from('80028a0a6cfc9c46f9206aa850192e', 'hex')
  const protocol = Buffer.from('80024de9032e', 'hex')
  const system = pickleBytes(dict(text('little_endian'), Buffer.from([0x88])))
  const call = pickleBytes(global('posix', 'system'), tuple(text('true')), 'R')
  const path = write(Buffer.concat([magic, protocol, system, call]))
  await t.rejects(readTorchBin(path), { code: 'ERR_UNSAFE_FILE', message: /posix\.system/ })
  const early = write(Buffer.concat([call, protocol, system]))
  await t.rejects(readTorchBin(early), { code: 'ERR_UNSAFE_FILE', message: /posix\.system/ })
})

t.test('tensors that leave their storage', async t => {
  const bad = { code: 'ERR_BAD_FILE' }
  const cases: [Parameters<typeof oneTensor>[0], RegExp][] = [
    [{ offset: 1 }, /ends at element 7 of a storage of 6/],
    [{ shape: [3, 3] }, /more elements than its storage/],
    [{ shape: [2, 2], strides: [5, 1] }, /ends at element 7/],
    [{ shape: [2], strides: [2 ** 31 - 1] }, /ends at element 2147483648/],
    [{ shape: [1000, 1000], strides: [0, 0] }, /more elements than its storage/],
    [
      { shape: Array(9).fill(2 ** 31 - 1), strides: Array(9).fill(1) },
      /more elements than its storage/,
    ],
    [{ offset: -1 }, /a tensor has offset -1/],
    [{ shape: [2, 3], strides: [-3, 1] }, /strides \[-3, 1\]/],
    [{ shape: [2, 3], strides: [1] }, /strides \[1\]/],
    [{ length: 7, shape: [7] }, /storage "0" has 24 bytes, expected 28/],
    [{ key: 'other' }, /storage "other" is not in the file/],
    [{ key: '../../secret' }, /storage "\.\.\/\.\.\/secret" is not in the file/],
  ]
  for (const [options, message] of cases) {
    await t.rejects(readTorchBin(write(oneTensor(options))), { ...bad, message }, String(message))
  }
})

t.test('malformed pickles', async t => {
  const cases: [string, Buffer, RegExp][] = [
    ['not a dict', pickleBytes(text('x')), /not a state dict/],
    ['empty stack', pickleBytes(), /missing on the stack/],
    ['missing mark', pickleBytes('u'), /mark is missing/],
    ['reach below a mark', pickleBytes('}(', text('k'), 's'), /missing on the stack/],
    ['odd items', pickleBytes('}(', text('k'), 'u'), /no value/],
    ['unhashable key', pickleBytes('}(}}u'), /not a text or number/],
    [
      'a name that occurs twice',
      pickleBytes(dict(text('w'), integer(1), text('w'), integer(2))),
      /"w" occurs twice/,
    ],
    ['missing memo', pickleBytes('h\x05'), /memo entry 5/],
    ['left-over values', pickleBytes('}}'), /left on the stack/],
    ['no STOP', pickleBytes('}').subarray(0, -1), /truncated/],
    ['a text of 4 GB', pickleBytes('X\xff\xff\xff\xff'), /truncated/],
    ['a global without an end', pickleBytes('cposix'), /truncated/],
    ['invalid UTF-8', pickleBytes('X\x01\x00\x00\x00\xff'), /UTF-8/],
    ['a persistent id that is a text', pickleBytes(text('storage'), 'Q'), /not that of a storage/],
    ['many values', pickleBytes('N'.repeat(100_002)), /more than 100000 values on the stack/],
    ['many marks', pickleBytes('('.repeat(100_002)), /more than 100000 marks/],
    [
      'many objects',
      pickleBytes('(', '}'.repeat(90_000), 't', ...Array(11).fill(`(${'}'.repeat(90_000)}t`)),
      /objects/,
    ],
    [
      'OrderedDict with arguments',
      pickleBytes(global('collections', 'OrderedDict'), tuple(dict()), 'R'),
      /expected none/,
    ],
    [
      'a call of a storage class',
      pickleBytes(global('torch', 'FloatStorage'), tuple(integer(4)), 'R'),
      /a call of/,
    ],
  ]
  for (const [what, pickle, message] of cases) {
    await t.rejects(readTorchBin(write(torchZip(pickle))), { code: 'ERR_BAD_FILE', message }, what)
  }
})

t.test('a value that contains itself or is very deep is no danger', async t => {
  const self = pickleBytes('}q\x00', text('me'), 'h\x00s')
  t.equal((await readTorchBin(write(torchZip(self)))).tensors.size, 0)
  const deep = pickleBytes('}', text('deep'), ')', '\x85'.repeat(200_000), 's')
  t.equal((await readTorchBin(write(torchZip(deep)))).tensors.size, 0)
  const doubling = pickleBytes('}', text('laughs'), ')q\x00', 'h\x00\x86q\x00'.repeat(200), 's')
  t.equal((await readTorchBin(write(torchZip(doubling)))).tensors.size, 0)
})

t.test('malformed zips', async t => {
  const pickle = pickleBytes(dict(text('w'), tensor({ length: 6, shape: [6] })))
  const good = torchZip(pickle, { 0: six })
  const patched = (at: number, ...bytes: number[]) => {
    const copy = Buffer.from(good)
    for (const [index, byte] of bytes.entries())
      copy[(at < 0 ? copy.length : 0) + at + index] = byte
    return copy
  }
  const overlapping = Buffer.from(good)
  const second = good.indexOf(
    Buffer.from('PK\x01\x02'),
    good.indexOf(Buffer.from('PK\x01\x02')) + 4,
  )
  overlapping.writeUInt32LE(4, second + 42)
  const cases: [string, Buffer, RegExp][] = [
    ['truncated', good.subarray(0, -30), /no end record/],
    ['compressed', torchZip(pickle, { 0: six }, { method: 8 }), /compressed \(method 8\)/],
    ['no data.pkl', zipBytes([['a/b', six]]), /0 entries FOLDER\/data\.pkl/],
    [
      'two data.pkl',
      zipBytes([
        ['a/data.pkl', pickle],
        ['b/data.pkl', pickle],
      ]),
      /2 entries FOLDER\/data\.pkl/,
    ],
    [
      'the same entry twice',
      zipBytes([
        ['a/data.pkl', pickle],
        ['a/data.pkl', pickle],
      ]),
      /occurs twice/,
    ],
    [
      'big-endian',
      zipBytes([
        ['a/data.pkl', pickle],
        ['a/byteorder', Buffer.from('big')],
      ]),
      /byteorder is "big"/,
    ],
    ['entry count', patched(-12, 77), /its end record says 77/],
    ['several disks', patched(-18, 1), /several disks/],
    ['overlapping entries', overlapping, /overlaps the next one/],
    ['another name in the local header', patched(30, 0x62), /local header names/],
    [
      'a long extra field in the local header',
      patched(28, 0xff, 0xff),
      /reaches into the next one/,
    ],
  ]
  for (const [what, bytes, message] of cases) {
    await t.rejects(readTorchBin(write(bytes)), { code: 'ERR_BAD_FILE', message }, what)
  }
})

t.test('a 64-bit zip whose fields claim 2^60 bytes', async t => {
  const zip = torchZip(pickleBytes(dict()), {}, { zip64: true })
  for (const [what, at] of [
    ['the directory', zip.lastIndexOf(Buffer.from('PK\x06\x06')) + 40],
    ['its offset', zip.lastIndexOf(Buffer.from('PK\x06\x06')) + 48],
    ['the end record', zip.lastIndexOf(Buffer.from('PK\x06\x07')) + 8],
    ['an entry', zip.indexOf(Buffer.from('PK\x01\x02')) + 46 + 'archive/data.pkl'.length + 4],
  ] as const) {
    const copy = Buffer.from(zip)
    copy.writeBigUInt64LE(2n ** 60n, at)
    await t.rejects(readTorchBin(write(copy)), { code: 'ERR_BAD_FILE' }, what)
  }
})

t.test('files that are something else', async t => {
  for (const bytes of [Buffer.alloc(0), Buffer.from('hello'), Buffer.from([0x80, 4, 0x95])]) {
    await t.rejects(readTorchBin(write(bytes)), {
      code: 'ERR_BAD_FILE',
      message: /neither of the formats/,
    })
  }
  await t.rejects(readTorchBin(write(pickleBytes(integer(3)))), {
    code: 'ERR_BAD_FILE',
    message: /magic number/,
  })
})
