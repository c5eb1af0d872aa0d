import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type Checkpoint, openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { recordModel, storedTensors } from '../../lib/families/record.js'
import { describeModel } from '../../lib/families/registry.js'
import { parametersOf } from '../../lib/program/model-spec.js'
import type { TensorRef } from '../../lib/tensor/tensor-ref.js'
import { goldenCase } from '../support/golden.js'
import { listedCheckpoint } from '../support/listed-checkpoint.js'
import { directoryWith, safetensorsBytes } from './files.js'

const root = t.testdir({})
let directories = 0

function directory(files: Record<string, Buffer | string>): string {
  return directoryWith(root, `directory-${directories++}`, files)
}

/** A shard of f32 vectors of one element. */
function shard(...names: string[]): Buffer {
  const entries = names.map((name, i) => [
    name,
    { dtype: 'F32', shape: [1], data_offsets: [4 * i, 4 * i + 4] },
  ])
  return safetensorsBytes(Object.fromEntries(entries), Buffer.alloc(4 * names.length))
}

function index(weightMap: unknown): string {
  return JSON.stringify({ metadata: { total_size: 8 }, weight_map: weightMap })
}

const INDEX = 'model.safetensors.index.json'

t.test('which file holds the weights', async t => {
  const bin = readFileSync(join(goldenCase('tied-bin'), 'pytorch_model.bin'))
  const both = await openCheckpoint(
    directory({ 'model.safetensors': shard('a'), 'pytorch_model.bin': bin }),
  )
  t.equal(both.format, 'safetensors', 'safetensors first')
  t.strictSame([...both.tensors.keys()], ['a'])
  const single = directory({ 'model.safetensors': shard('a'), [INDEX]: 'not read' })
  t.strictSame(
    (await openCheckpoint(single)).files,
    [join(single, 'model.safetensors')],
    'a single file first',
  )
  t.equal((await openCheckpoint(directory({ 'pytorch_model.bin': bin }))).format, 'bin')
})

t.test('shards', async t => {
  const files = { 'a.safetensors': shard('a', 'unlisted'), 'b.safetensors': shard('b') }
  const path = directory({ ...files, [INDEX]: index({ a: 'a.safetensors', b: 'b.safetensors' }) })
  const { tensors, files: paths } = await openCheckpoint(path)
  t.strictSame([...tensors.keys()], ['a', 'b'], 'what the index lists')
  t.equal(tensors.get('b')!.file, join(path, 'b.safetensors'))
  t.strictSame(paths, [join(path, 'a.safetensors'), join(path, 'b.safetensors')])
})

t.test('directories that cannot be opened', async t => {
  const notFound = { code: 'ERR_NOT_FOUND' }
  await t.rejects(openCheckpoint(join(root, 'nothing')), {
    ...notFound,
    message: /nothing: no such directory/,
  })
  await t.rejects(openCheckpoint(directory({})), {
    ...notFound,
    message: /holds no weights \(model\.safetensors,/,
  })
  const missing = directory({ [INDEX]: index({ a: 'gone.safetensors' }) })
  await t.rejects(openCheckpoint(missing), {
    ...notFound,
    message: /gone\.safetensors: no such file/,
  })
})

t.test('indexes that are wrong', async t => {
  const files = { 'a.safetensors': shard('a') }
  const cases: [string, RegExp, string][] = [
    ['{', /not valid JSON/, 'ERR_BAD_FILE'],
    ['{}', /weight_map is not an object/, 'ERR_BAD_FILE'],
    [index([]), /weight_map is not an object/, 'ERR_BAD_FILE'],
    [index({ b: 'a.safetensors' }), /"b" is not in a\.safetensors/, 'ERR_BAD_FILE'],
    [
      '{"weight_map": {"a": "a.safetensors", "a": "b.safetensors"}}',
      /"a" occurs twice/,
      'ERR_BAD_FILE',
    ],
    [index({ a: 3 }), /"a" is in 3, expected the name of a file/, 'ERR_UNSAFE_FILE'],
  ]
  for (const name of [
    '../a',
    '/etc/passwd',
    'sub/a',
    '..\\a',
    'C:a',
    '..',
    '.',
    '',
    'a\0',
    '~/a',
    'a\nb',
    'a'.repeat(300),
  ]) {
    cases.push([
      index({ a: name }),
      /expected the name of a file in the same directory/,
      'ERR_UNSAFE_FILE',
    ])
  }
  for (const [text, message, code] of cases) {
    await t.rejects(
      openCheckpoint(directory({ ...files, [INDEX]: text })),
      { code, message },
      text.slice(0, 100),
    )
  }
})

const CONFIG = {
  model_type: 'MoE++',
  vocab_size: 10,
  hidden_size: 8,
  intermediate_size: 6,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_experts: [6],
}
const described = (changes: object = {}) => describeModel({ ...CONFIG, ...changes }, 'config.json')

/** A checkpoint that exists only as references. */
function checkpointOf(
  change: (tensors: Map<string, TensorRef>) => void,
  unusable: [string, string][] = [],
): Checkpoint {
  const checkpoint = listedCheckpoint(described())
  change(checkpoint.tensors)
  return { ...checkpoint, unusable: new Map(unusable) }
}

t.test('the names of a model', async t => {
  const names = (changes: object) => storedTensors(described(changes)).map(({ name }) => name)
  t.ok(
    names({}).includes('model.layers.0.mlp.moe.gate.wg.2.weight'),
    'the default router has two layers',
  )
  t.ok(names({ moe_2layer_gate: false }).includes('model.layers.1.mlp.moe.gate.wg.weight'))
  t.notOk(
    names({}).includes('model.layers.0.mlp.moe.gate.gate_map.weight'),
    'never used in layer 0',
  )
  t.ok(names({}).includes('model.layers.1.mlp.moe.gate.gate_map.weight'))
  t.notOk(names({ tie_word_embeddings: true }).includes('lm_head.weight'))
  t.ok(names({ tie_word_embeddings: false }).includes('lm_head.weight'))
  t.equal(new Set(names({})).size, names({}).length)
})

t.test('a checkpoint against its configuration', async t => {
  const extra = checkpointOf(tensors =>
    tensors.set('model.layers.0.self_attn.rotary_emb.inv_freq', tensors.get('lm_head.weight')!),
  )
  t.strictSame(
    [...parametersOf(recordModel(described(), extra, 'exact')).keys()],
    storedTensors(described()).map(({ name }) => name),
  )

  const q = 'model.layers.1.self_attn.q_proj.weight'
  const set = (ref: Partial<TensorRef>) =>
    checkpointOf(tensors => tensors.set(q, { ...tensors.get(q)!, ...ref }))
  const remove = (name: string) => (tensors: Map<string, TensorRef>) => void tensors.delete(name)
  const cases: [Checkpoint, string][] = [
    [set({ shape: [8, 7] }), `${q}: weight is [8, 7] f32, expected [8, 8] (/model.safetensors)`],
    [
      set({ shape: [8, 8, 1], dtype: 'bf16' }),
      `${q}: weight is [8, 8, 1] bf16, expected [8, 8] (/model.safetensors)`,
    ],
    [set({ shape: [] }), `${q}: weight is [] f32, expected [8, 8] (/model.safetensors)`],
    [checkpointOf(remove(q)), `${q}: missing in /`],
    [checkpointOf(remove('lm_head.weight')), 'lm_head.weight: missing in /'],
    [
      checkpointOf(remove(q), [[q, 'F64']]),
      `${q}: weight is of type F64, expected float32, float16, bfloat16 or float8 (/)`,
    ],
  ]
  for (const [checkpoint, message] of cases) {
    t.throws(() => recordModel(described(), checkpoint, 'exact'), {
      name: 'MoeppError',
      code: 'ERR_BAD_WEIGHTS',
      message,
    })
  }
  const deep = described({ num_hidden_layers: 2 ** 31 - 1 })
  const shallow = checkpointOf(() => {})
  t.throws(
    () => recordModel(deep, shallow, 'exact'),
    { code: 'ERR_BAD_WEIGHTS', message: /model\.layers\.2\.input_layernorm\.weight: missing/ },
    'a configuration that claims billions of layers fails at the first that is missing',
  )
})
