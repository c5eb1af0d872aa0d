import { join } from 'node:path'
import t from 'tap'
import { readSafetensors } from '../../lib/checkpoint/safetensors.js'
import { directoryWith, safetensorsBytes } from './files.js'

const root = t.testdir({})
let files = 0

function write(bytes: Buffer): string {
  return join(
    directoryWith(root, `file-${files++}`, { 'model.safetensors': bytes }),
    'model.safetensors',
  )
}

const a = { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] }
const b = { dtype: 'BF16', shape: [4], data_offsets: [24, 32] }

t.test('references of a well-formed file', async t => {
  const header = {
    __metadata__: { format: 'pt' },
    b,
    a,
    scalar: { dtype: 'F16', shape: [], data_offsets: [32, 34] },
  }
  const path = write(safetensorsBytes(header, Buffer.alloc(34)))
  const { tensors, unusable } = await readSafetensors(path)
  const start = 8 + JSON.stringify(header).length
  t.strictSame(tensors.get('a'), {
    dtype: 'f32',
    shape: [2, 3],
    file: path,
    byteOffset: start,
    byteLength: 24,
  })
  t.strictSame(tensors.get('b'), {
    dtype: 'bf16',
    shape: [4],
    file: path,
    byteOffset: start + 24,
    byteLength: 8,
  })
  t.match(tensors.get('scalar'), { dtype: 'f16', shape: [], byteLength: 2 })
  t.equal(unusable.size, 0)
})

t.test('empty tensors, trailing spaces, and no tensor at all', async t => {
  const empty = { dtype: 'F32', shape: [0, 5], data_offsets: [0, 0] }
  const padded = `${JSON.stringify({ empty, a })}     `
  t.equal(
    (await readSafetensors(write(safetensorsBytes(padded, Buffer.alloc(24))))).tensors.size,
    2,
  )
  t.equal((await readSafetensors(write(safetensorsBytes({})))).tensors.size, 0)
})

t.test('other element types of the format are kept apart', async t => {
  const header = {
    counts: { dtype: 'I64', shape: [1], data_offsets: [0, 8] },
    half: { dtype: 'F4', shape: [3, 2], data_offsets: [8, 11] },
  }
  const { tensors, unusable } = await readSafetensors(
    write(safetensorsBytes(header, Buffer.alloc(11))),
  )
  t.equal(tensors.size, 0)
  t.strictSame(
    [...unusable],
    [
      ['counts', 'I64'],
      ['half', 'F4'],
    ],
  )
})

const claim = Buffer.alloc(16)
claim.writeBigUInt64LE(2n ** 60n)
const belowLimit = Buffer.alloc(16)
belowLimit.writeBigUInt64LE(99_000_000n)

const BAD: [what: string, bytes: Buffer, message: RegExp][] = [
  ['an empty file', Buffer.alloc(0), /the header length takes bytes 0 to 8, the file has 0/],
  ['a header of 2^60 bytes', claim, /claims 1152921504606846976 bytes, at most 100000000/],
  [
    'a header longer than the file',
    belowLimit,
    /the header takes bytes 8 to 99000008, the file has 16/,
  ],
  ['text that is not UTF-8', Buffer.from([1, 0, 0, 0, 0, 0, 0, 0, 0xff]), /not UTF-8/],
  ['broken JSON', safetensorsBytes('{"a": '), /not valid JSON/],
  ['deep nesting', safetensorsBytes('['.repeat(200_000)), /not valid JSON/],
  [
    'deep nesting in valid JSON',
    safetensorsBytes(`{"a":${'['.repeat(100)}${']'.repeat(100)}}`),
    /nested deeper than 100 levels/,
  ],
  ['a list', safetensorsBytes('[]'), /expected a JSON object/],
  [
    'a tensor that is no object',
    safetensorsBytes({ a: 3 }),
    /tensor "a": expected an object, got 3/,
  ],
  ['metadata that is no object', safetensorsBytes({ __metadata__: [] }), /__metadata__/],
  ['metadata with numbers', safetensorsBytes({ __metadata__: { a: 1 } }), /__metadata__/],
  [
    'an unknown dtype',
    file({ a: { ...a, dtype: 'F128' } }, 24),
    /dtype is "F128", which the format does not have/,
  ],
  ['an inherited dtype', file({ a: { ...a, dtype: 'constructor' } }, 24), /dtype is "constructor"/],
  ['a missing dtype', file({ a: { shape: [6], data_offsets: [0, 24] } }, 24), /dtype is nothing/],
  ['a negative size', file({ a: { ...a, shape: [-2, -3] } }, 24), /shape is \[-2, -3\]/],
  ['a fractional size', file({ a: { ...a, shape: [1.5, 4] } }, 24), /shape is \[1\.5, 4\]/],
  ['an overflowing product', file({ a: { ...a, shape: [2 ** 40, 2 ** 40] } }, 24), /overflows/],
  [
    'a product that overflows before a 0',
    file({ a: { ...a, shape: [2 ** 40, 2 ** 40, 0] } }, 24),
    /overflows/,
  ],
  [
    'offsets that do not fit the shape',
    file({ a: { ...a, data_offsets: [0, 20] } }, 20),
    /takes 24 bytes.* hold 20/,
  ],
  ['reversed offsets', file({ a: { ...a, data_offsets: [24, 0] } }, 24), /takes 24 bytes/],
  [
    'three offsets',
    file({ a: { ...a, data_offsets: [0, 24, 48] } }, 24),
    /expected \[begin, end\]/,
  ],
  [
    'offsets out of range',
    file({ a: { ...a, data_offsets: [0, 24] } }, 23),
    /take 24 bytes, the file has 23/,
  ],
  ['content after the last tensor', file({ a }, 25), /take 24 bytes, the file has 25/],
  ['overlapping tensors', file({ a, b: { ...b, data_offsets: [20, 28] } }, 28), /"b".*overlaps/],
  ['the same bytes twice', file({ a, c: a }, 24), /overlaps/],
  [
    'a gap',
    file({ a, b: { ...b, data_offsets: [26, 34] } }, 34),
    /"b".*leaves a gap before it, expected begin 24/,
  ],
  ['a gap at the start', file({ b }, 32), /leaves a gap/],
  [
    'a name that occurs twice',
    fileOf(`{"a":${JSON.stringify(a)},"a":${JSON.stringify(a)}}`, 24),
    /"a" occurs twice/,
  ],
  [
    'the same name in disguise',
    fileOf(`{"a":${JSON.stringify(a)},"\\u0061":${JSON.stringify(a)}}`, 24),
    /"a" occurs/,
  ],
  [
    'a field that occurs twice',
    fileOf('{"a":{"dtype":"F32","shape":[6],"dtype":"F32"}}', 24),
    /"dtype" occurs twice/,
  ],
]

function file(header: unknown, dataBytes: number): Buffer {
  return safetensorsBytes(header, Buffer.alloc(dataBytes))
}

function fileOf(header: string, dataBytes: number): Buffer {
  return safetensorsBytes(header, Buffer.alloc(dataBytes))
}

t.test('malformed files', async t => {
  for (const [what, bytes, message] of BAD) {
    const path = write(bytes)
    await t.rejects(
      readSafetensors(path),
      { name: 'MoeppError', code: 'ERR_BAD_FILE', message },
      what,
    )
  }
})

t.test('what a terminal would obey does not come into messages', async t => {
  const headers = ['{"a":\x1b[2J}', `{"\x7f\x9b2J":{}}`, `{"a":{"dtype":"\\u001b[2J"}}`]
  for (const header of headers) {
    const { message } = await readSafetensors(write(fileOf(header, 0))).catch(error => error)
    t.match(message, /\\u00(1b|7f)/)
    t.notMatch(message, /\p{Cc}/u)
  }
})

t.test('a name that looks like an object member of JavaScript is a name', async t => {
  const header = `{"__proto__":${JSON.stringify(a)},"constructor":${JSON.stringify(b)}}`
  const { tensors } = await readSafetensors(write(fileOf(header, 32)))
  t.strictSame([...tensors.keys()].sort(), ['__proto__', 'constructor'])
})

t.test('keys are told from texts in duplicate detection', async t => {
  const header = { __metadata__: { x: 'x', y: '"a":', z: 'a\\' }, a }
  t.equal((await readSafetensors(write(file(header, 24)))).tensors.size, 1)
})

t.test('files that cannot be opened', async t => {
  const notFound = { code: 'ERR_NOT_FOUND' }
  await t.rejects(readSafetensors(join(root, 'nothing')), notFound)
  await t.rejects(readSafetensors(root), { ...notFound, message: /not a regular file/ })
  const pointer = 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n'
  await t.rejects(readSafetensors(write(Buffer.from(pointer))), {
    code: 'ERR_BAD_FILE',
    message: /Git LFS pointer/,
  })
})
