import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { readSafetensors } from '../../lib/checkpoint/safetensors.js'
import { recordModel, storedTensors } from '../../lib/families/record.js'
import { readModel } from '../../lib/families/registry.js'
import { readGenerationConfig } from '../../lib/generation/generation-config.js'
import { caseNames, goldenCase } from '../support/golden.js'
import { BOOKS, readInt32, readValues } from './files.js'

const DTYPES: Record<string, string> = { float32: 'f32', float16: 'f16', bfloat16: 'bf16' }

for (const name of caseNames()) {
  t.test(`golden case ${name} opens and fits its configuration`, async t => {
    const directory = goldenCase(name)
    const description = await readModel(directory)
    const { weights } = JSON.parse(readFileSync(join(directory, 'case.json'), 'utf8'))
    const checkpoint = await openCheckpoint(directory)
    t.equal(checkpoint.format, weights.format.startsWith('bin') ? 'bin' : 'safetensors')
    t.equal(checkpoint.files.length, weights.format.endsWith('sharded') ? 2 : 1)
    const parts = recordModel(description, checkpoint, 'exact').weights.flatMap(w => w.parts)
    t.equal(parts.length, storedTensors(description).length)
    for (const ref of parts) {
      t.equal(ref.dtype, DTYPES[weights.dtype])
      t.ok(checkpoint.files.includes(ref.file))
    }
  })
}

t.test('the bundled model opens and fits its configuration', async t => {
  const description = await readModel(BOOKS)
  const generation = await readGenerationConfig(BOOKS)
  t.strictSame(generation, { bosTokenId: 1, padTokenId: 0, eosTokenIds: [2] })
  const checkpoint = await openCheckpoint(BOOKS)
  recordModel(description, checkpoint, 'exact')
  const bytes = [...checkpoint.tensors.values()].reduce((sum, ref) => sum + ref.byteLength, 0)
  const index = JSON.parse(readFileSync(join(BOOKS, 'pytorch_model.bin.index.json'), 'utf8'))
  t.equal(bytes, index.metadata.total_size, 'the tensors take what the index says')
  const norms = readValues(checkpoint.tensors.get('model.norm.weight')!)
  t.ok(
    norms.every(value => Math.abs(value) < 100),
    'a trained norm holds ordinary numbers',
  )
})

t.test('tied weights of a .bin are two references to the same bytes', async t => {
  const { tensors } = await openCheckpoint(goldenCase('tied-bin'))
  t.strictSame(tensors.get('lm_head.weight'), tensors.get('model.embed_tokens.weight'))
})

for (const name of caseNames()) {
  t.test(`embedding rows read from ${name} are the recorded first hidden states`, async t => {
    const directory = goldenCase(name)
    const { config } = await readModel(directory)
    const { tensors } = await openCheckpoint(directory)
    const embedding = readValues(tensors.get('model.embed_tokens.weight')!)
    const expected = join(directory, 'expected.safetensors')
    const ids = readInt32(expected, 'input_ids')
    const hidden = readValues((await readSafetensors(expected)).tensors.get('hidden_states')!)
    const { hiddenSize } = config
    for (const [row, id] of ids.entries()) {
      const got = embedding.slice(id * hiddenSize, (id + 1) * hiddenSize)
      t.strictSame(got, hidden.slice(row * hiddenSize, (row + 1) * hiddenSize), `token ${id}`)
    }
  })
}

t.test('views of a .bin: transposed strides and offsets into a shared storage', async t => {
  const { tensors } = await openCheckpoint(goldenCase('two-layer-gate'))
  const strided = [...tensors.values()].filter(ref => ref.strides !== undefined)
  t.ok(strided.length > 0, 'some are transposed')
  for (const ref of strided) {
    t.strictSame(ref.strides, [1, ref.shape[0]], 'as a transposed matrix')
    t.equal(ref.byteLength, 4 * ref.shape[0]! * ref.shape[1]!)
    const values = readValues(ref)
    t.ok(values.every(value => Math.abs(value) < 10) && values.some(value => value !== 0))
  }
})

t.test('legacy files: weights are read at the right place', async t => {
  // The released initialisation has norms of about 1 and matrices far below; a wrong offset would
  // mix them.
  const { tensors } = await openCheckpoint(goldenCase('n12-legacy'))
  t.ok(
    tensors.has('model.layers.0.self_attn.rotary_emb.inv_freq'),
    'a name that the model does not have',
  )
  const frequencies = readValues(tensors.get('model.layers.0.self_attn.rotary_emb.inv_freq')!)
  const headDim = frequencies.length * 2
  for (const [j, value] of frequencies.entries()) {
    t.ok(Math.abs(value - 10000 ** ((-2 * j) / headDim)) < 1e-6, `inverse frequency ${j}`)
  }
})
