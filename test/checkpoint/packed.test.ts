/** Packed weights in safetensors files: what the metadata must say, and what of it is checked. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { packedBytes, packedLayout, packedMetadata } from '../../lib/checkpoint/packed.js'
import { readSafetensors } from '../../lib/checkpoint/safetensors.js'
import { convertCheckpoint } from '../../lib/convert/convert.js'
import { recordModel } from '../../lib/families/record.js'
import { readModel } from '../../lib/families/registry.js'
import { loadModel } from '../../lib/index.js'
import { weightSize } from '../../lib/tensor/tensor-ref.js'
import { goldenCase } from '../support/golden.js'
import { directoryWith, safetensorsBytes } from './files.js'

const root = t.testdir({})
let files = 0

function write(bytes: Buffer): string {
  return join(
    directoryWith(root, `file-${files++}`, { 'model.safetensors': bytes }),
    'model.safetensors',
  )
}

t.test('sizes, by hand', async t => {
  // One panel of 32 rows. A row has 128 values and a scale of 2 bytes (int8), or 64 bytes, the
  // scale and 2 bytes of multipliers (int4).
  t.equal(packedBytes({ dtype: 'int8', shape: [32, 128] }), 32 * 130)
  t.equal(packedBytes({ dtype: 'int4', shape: [32, 128] }), 32 * 68)
  t.equal(packedBytes({ dtype: 'int8', shape: [33, 129] }), 2 * 32 * 2 * 130)
  t.equal(packedBytes({ dtype: 'int4', shape: [5, 34, 1] }), 5 * 2 * 32 * 68)
  t.equal(packedBytes({ dtype: 'int8', shape: [2 ** 30, 2 ** 40, 8] }), undefined)
  t.equal(weightSize({ dtype: 'int8', shape: [5, 33, 129] }), 5 * 33 * 2 * 130)
  t.equal(weightSize({ dtype: 'int4', shape: [10, 128] }), 10 * 68)
  t.equal(weightSize({ dtype: 'bf16', shape: [10, 128] }), 2560)
  t.equal(weightSize({ dtype: 'f32', shape: [7] }), 28)
})

const LAYOUT = packedLayout().name
const w = { dtype: 'int8', shape: [20, 100], packed: 'matrix' } as const
/** `w` as a file says it. */
const stored = { ...w, packed: 'panels' } as const
const tensor = { dtype: 'U8', shape: [4160], data_offsets: [0, 4160] }

/**
 * A file of one packed weight `w`, with changes; the header is padded to a multiple of 64 bytes.
 */
function packedFile(
  metadata: object,
  tensors: object = { w: tensor },
  bytes = 4160,
  unit = 64,
): Buffer {
  const text = JSON.stringify({ __metadata__: metadata, ...tensors })
  return safetensorsBytes(
    text.padEnd(Math.ceil((text.length + 8) / unit) * unit - 8),
    Buffer.alloc(bytes),
  )
}

const metadata = packedMetadata(new Map([['w', w]]))
const said = (weight: object, name = 'w') => ({
  moepp_layout: LAYOUT,
  moepp_packed: JSON.stringify({ [name]: weight }),
})

t.test('a well-formed file', async t => {
  const path = write(packedFile(metadata))
  const { packed, tensors, unusable } = await readSafetensors(path)
  const { byteOffset, ...ref } = packed.get('w')!
  t.strictSame(ref, { ...w, file: path, byteLength: 4160 })
  t.equal(byteOffset % 64, 0)
  t.equal(tensors.size + unusable.size, 0)
})

const BAD: [what: string, bytes: Buffer, message: RegExp][] = [
  [
    'an unknown layout',
    packedFile({ ...metadata, moepp_layout: 'panels64-v2' }),
    /layout "panels64-v2", this version of moepp reads "panels32-.*convert the original checkpoint again/,
  ],
  ['no layout', packedFile({ moepp_packed: metadata.moepp_packed }), /the layout nothing/],
  ['no weights', packedFile({ moepp_layout: LAYOUT }), /moepp_layout, but no moepp_packed/],
  [
    'weights that are no JSON',
    packedFile({ ...metadata, moepp_packed: '{' }),
    /moepp_packed: not valid JSON/,
  ],
  ['a list', packedFile({ ...metadata, moepp_packed: '[]' }), /expected a JSON object/],
  ['a name twice', packedFile({ ...metadata, moepp_packed: '{"w":1,"w":1}' }), /"w" occurs twice/],
  ['no object', packedFile(said([])), /packed weight "w": expected an object, got \[\]/],
  [
    'another dtype',
    packedFile(said({ ...stored, dtype: 'int2' })),
    /dtype is "int2", expected "int8" or "int4"/,
  ],
  ['another order', packedFile(said({ ...stored, packed: 'rows' })), /packed is "rows"/],
  [
    'one size',
    packedFile(said({ ...stored, shape: [4096] })),
    /shape is \[4096\], expected 2 or 3 sizes/,
  ],
  [
    'a size of 0',
    packedFile(said({ ...stored, shape: [0, 20, 100] })),
    /expected 2 or 3 sizes above 0/,
  ],
  [
    'a negative size',
    packedFile(said({ ...stored, shape: [-20, 100] })),
    /expected 2 or 3 sizes above 0/,
  ],
  [
    'rows that are too long',
    packedFile(said({ ...stored, shape: [1, 2 ** 24 + 1] })),
    /expected at most 16777216/,
  ],
  [
    'odd gate and up rows',
    packedFile(said({ ...stored, shape: [1, 21, 100], packed: 'gateUpPanels' })),
    /expected \[experts, 2 \* columns, inputs\]/,
  ],
  [
    'too few bytes',
    packedFile(said({ ...stored, shape: [33, 100] })),
    /\[33, 100\] int8 takes 8320 bytes, the file has 4160/,
  ],
  [
    'too many bytes',
    packedFile(said({ ...stored, dtype: 'int4' })),
    /\[20, 100\] int4 takes 2176 bytes/,
  ],
  [
    'more than can be counted',
    packedFile(said({ ...stored, shape: [2 ** 52, 100] })),
    /takes too many bytes/,
  ],
  [
    'a missing tensor',
    packedFile(said(stored, 'v')),
    /packed weight "v": the tensor is missing, expected U8/,
  ],
  [
    'a tensor of another type',
    packedFile(metadata, { w: { ...tensor, dtype: 'I8' } }),
    /packed weight "w": the tensor is I8, expected U8/,
  ],
  [
    'a weight that is not aligned',
    packedFile(
      metadata,
      {
        a: { dtype: 'F32', shape: [1], data_offsets: [0, 4] },
        w: { ...tensor, data_offsets: [4, 4164] },
      },
      4164,
    ),
    /begins at byte \d+, expected a multiple of 64/,
  ],
  [
    'overlapping weights',
    packedFile(
      packedMetadata(
        new Map([
          ['w', w],
          ['v', w],
        ]),
      ),
      { w: tensor, v: { ...tensor, data_offsets: [64, 4224] } },
      4224,
    ),
    /overlaps the tensor before it/,
  ],
]

t.test('malformed files', async t => {
  for (const [what, bytes, message] of BAD) {
    await t.rejects(
      readSafetensors(write(bytes)),
      { name: 'MoeppError', code: 'ERR_BAD_FILE', message },
      what,
    )
  }
})

t.test('metadata of other programs is theirs', async t => {
  const header = { __metadata__: { format: 'pt', constructor: 'x' }, w: tensor }
  const { packed, unusable } = await readSafetensors(
    write(safetensorsBytes(header, Buffer.alloc(4160))),
  )
  t.equal(packed.size, 0)
  t.same([...unusable], [['w', 'U8']])
})

/** Rewrites the header of a converted checkpoint, whose length must stay. */
function editHeader(directory: string, edit: (header: string) => string): void {
  const path = join(directory, 'model.safetensors')
  const bytes = readFileSync(path)
  const end = 8 + Number(bytes.readBigUInt64LE())
  const edited = edit(bytes.toString('utf8', 8, end)).trimEnd()
  bytes.write(edited.padEnd(end - 8), 8)
  writeFileSync(path, bytes)
}

t.test('a packed checkpoint against its configuration', async t => {
  const folder = t.testdir()
  const broken = async (name: string, edit: (header: string) => string) => {
    const target = join(folder, name)
    await convertCheckpoint(goldenCase('gqa'), target, { dtype: 'int8' })
    editHeader(target, edit)
    await openCheckpoint(target)
    return loadModel(target, { device: 'cpu' })
  }
  await t.rejects(
    broken('missing', header =>
      header.replaceAll('layers.1.self_attn.qkv_proj', 'layers.1.self_attn.qkv_prog'),
    ),
    { code: 'ERR_BAD_WEIGHTS', message: /model\.layers\.1\.self_attn\.q_proj\.weight: missing/ },
  )
  const o = 'model.layers.0.self_attn.o_proj.weight'
  await t.rejects(
    broken('transposed', header =>
      header.replace(
        /(o_proj\.weight\\":{\\"dtype\\":\\"int8\\",\\"shape\\":\[)(\d+)/,
        (_, start, rows) => `${start}${rows - 1}`,
      ),
    ),
    {
      code: 'ERR_BAD_WEIGHTS',
      message: new RegExp(`${o}: weight is \\[\\d+, \\d+\\] int8, expected`),
    },
  )
  await t.rejects(
    broken('order', header => header.replaceAll('gateUpPanels', 'panels')),
    { code: 'ERR_BAD_WEIGHTS', message: /up_proj: packed in matrix order, expected gate-up order/ },
  )
})

t.test('what no GEMM reads cannot be packed', async t => {
  const directory = goldenCase('gqa')
  const description = await readModel(directory)
  const checkpoint = await openCheckpoint(directory)
  for (const name of ['model.norm.weight', 'model.embed_tokens.weight']) {
    const packed = { ...w, file: '/packed', byteOffset: 0, byteLength: 4160 }
    const tensors = new Map([...checkpoint.tensors].filter(([other]) => other !== name))
    const changed = { ...checkpoint, tensors, packed: new Map([[name, packed]]) }
    t.throws(() => recordModel(description, changed, 'exact'), {
      code: 'ERR_BAD_WEIGHTS',
      message: `${name}: weight is of type int8, expected float32, float16, bfloat16 or float8 (${directory})`,
    })
  }
})
