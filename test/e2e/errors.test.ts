/**
 * Faults through the public interface: each is its own typed error that says what, where, expected,
 * got.
 */
import { cpSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { loadBinding } from '../../lib/addon/binding.js'
import {
  type GenerateOptions,
  type LoadOptions,
  loadModel,
  type MoeppErrorCode,
} from '../../lib/index.js'
import { pickled, safetensorsBytes, torchZip } from '../checkpoint/files.js'
import { goldenCase, readJson, root } from '../support/golden.js'

const books = join(root, 'models', 'books-7m')
const small = goldenCase('real7b-fp32') // model.safetensors
const sharded = goldenCase('real7b-bf16') // pytorch_model-*.bin

/** A copy of a checkpoint in `folder`, changed. */
function changed(folder: string, from: string, change: (directory: string) => void): string {
  const directory = join(folder, 'model')
  cpSync(from, directory, { recursive: true })
  change(directory)
  return directory
}

/** Changes config.json's keys. */
function configure(directory: string, keys: Record<string, unknown>) {
  const path = join(directory, 'config.json')
  writeFileSync(path, JSON.stringify({ ...readJson<object>(path), ...keys }))
}

/** A safetensors header, changed; the tensors' bytes stay. */
function reheader(directory: string, change: (header: Record<string, SafetensorsEntry>) => void) {
  const path = join(directory, 'model.safetensors')
  const file = readFileSync(path)
  const length = Number(file.readBigUInt64LE(0))
  const header = JSON.parse(file.toString('utf8', 8, 8 + length))
  change(header)
  writeFileSync(path, safetensorsBytes(header, file.subarray(8 + length)))
}

interface SafetensorsEntry {
  dtype: string
  shape: number[]
  data_offsets: [number, number]
}

const OS_SYSTEM = pickled.dict(
  pickled.text('weight'),
  Buffer.concat([
    pickled.global('os', 'system'),
    pickled.tuple(pickled.text('true')),
    Buffer.from('R'),
  ]),
)

const UP = 'model.layers.1.mlp.moe.experts.experts.3.up_proj.weight'

const faults: [string, MoeppErrorCode, RegExp, string, (directory: string) => void][] = [
  [
    'a missing shard',
    'ERR_NOT_FOUND',
    /00002-of-00002/,
    sharded,
    d => rmSync(join(d, 'pytorch_model-00002-of-00002.bin')),
  ],
  [
    'a truncated file',
    'ERR_BAD_FILE',
    /model\.safetensors/,
    small,
    d => truncateSync(join(d, 'model.safetensors'), 50_000),
  ],
  [
    'a truncated shard',
    'ERR_BAD_FILE',
    /00001-of/,
    sharded,
    d => truncateSync(join(d, 'pytorch_model-00001-of-00002.bin'), 9_000),
  ],
  [
    'a header that claims 2^60 bytes',
    'ERR_BAD_FILE',
    /1152921504606846976/,
    small,
    d => {
      const path = join(d, 'model.safetensors')
      const file = readFileSync(path)
      file.writeBigUInt64LE(1n << 60n)
      writeFileSync(path, file)
    },
  ],
  [
    'overlapping offsets',
    'ERR_BAD_FILE',
    /overlap|contiguous|begin/,
    small,
    d =>
      reheader(
        d,
        header => (header['model.norm.weight']!.data_offsets = [...header[UP]!.data_offsets]),
      ),
  ],
  [
    'a pickle that calls os.system',
    'ERR_UNSAFE_FILE',
    /os(\.| )system|posix(\.| )system/,
    small,
    d => {
      rmSync(join(d, 'model.safetensors'))
      writeFileSync(join(d, 'pytorch_model.bin'), torchZip(OS_SYSTEM))
    },
  ],
  [
    'a tensor of the wrong shape',
    'ERR_BAD_WEIGHTS',
    /model\.layers\.1\.mlp\.moe\.experts\.experts\.3\.up_proj\.weight.*is \[64, *24\].*expected \[24, *64\]/,
    small,
    d => reheader(d, header => header[UP]!.shape.reverse()),
  ],
  [
    'an unknown dtype',
    'ERR_BAD_FILE',
    /F12/,
    small,
    d => reheader(d, header => (header[UP]!.dtype = 'F12')),
  ],
  [
    'a dtype of no use',
    'ERR_BAD_WEIGHTS',
    /I32|int32/i,
    small,
    d => reheader(d, header => (header[UP]!.dtype = 'I32')),
  ],
  [
    'an unknown config flag',
    'ERR_BAD_CONFIG',
    /moe_use_magic/,
    small,
    d => configure(d, { moe_use_magic: true }),
  ],
  [
    'a config of another model',
    'ERR_BAD_CONFIG',
    /moe_expert_interval/,
    small,
    d => configure(d, { moe_expert_interval: 2 }),
  ],
  [
    'a vocabulary larger than the embedding',
    'ERR_BAD_WEIGHTS',
    /embed_tokens/,
    small,
    d => configure(d, { vocab_size: 500 }),
  ],
  ['no config', 'ERR_NOT_FOUND', /config\.json/, small, d => rmSync(join(d, 'config.json'))],
  [
    'no weights',
    'ERR_NOT_FOUND',
    /model\.safetensors|pytorch_model/,
    small,
    d => rmSync(join(d, 'model.safetensors')),
  ],
  [
    'a tokenizer with more tokens than the embedding',
    'ERR_BAD_TOKENIZER',
    /2048.*192/,
    small,
    d => cpSync(join(books, 'tokenizer.model'), join(d, 'tokenizer.model')),
  ],
]

for (const [what, code, message, from, change] of faults) {
  t.test(what, async t => {
    const directory = changed(t.testdir(), from, change)
    await t.rejects(loadModel(directory), { name: 'MoeppError', code, message })
  })
}

t.test('a missing directory', async t => {
  await t.rejects(loadModel('./nowhere/at/all'), {
    code: 'ERR_NOT_FOUND',
    message: /nowhere\/at\/all/,
  })
})

const wrongLoads: [LoadOptions, RegExp][] = [
  [{ device: 'tpu' as 'cpu' }, /device/],
  [{ dtype: 'int2' as 'auto' }, /dtype/],
  [{ threads: 0 }, /threads/],
  [{ contextLength: -1 }, /contextLength/],
  [{ contxtLength: 5 } as LoadOptions, /contextLength/],
]
for (const [options, message] of wrongLoads) {
  t.test(`load option ${JSON.stringify(options)}`, async t => {
    await t.rejects(loadModel(books, options), { message })
  })
}

t.test('a device that this build or this machine does not have', async t => {
  const code = loadBinding().cuda().built ? 'ERR_NO_GPU' : 'ERR_UNSUPPORTED'
  await t.rejects(loadModel(books, { device: 'cuda:99' }), { code, message: /^cuda:99: / })
})

t.test('prompts and options', async t => {
  await using model = await loadModel(books, { contextLength: 64 })
  const long = Array.from({ length: 65 }, () => 5)
  await t.rejects(model.generate(long), { code: 'ERR_BAD_PROMPT', message: /65.*64|64.*65/ })
  await t.rejects(model.forward(long), { code: 'ERR_BAD_PROMPT', message: /65.*64|64.*65/ })
  await t.rejects(model.generate([]), { code: 'ERR_BAD_PROMPT' })
  await t.rejects(model.generate('', { addSpecialTokens: false }), { code: 'ERR_BAD_PROMPT' })
  await t.rejects(model.generate([1, -1]), { name: 'RangeError', message: /-1/ })
  await t.rejects(model.generate([1, 2048]), { name: 'RangeError', message: /2048/ })
  await t.rejects(model.generate([1.5]), { message: /1\.5/ })
  const options: [GenerateOptions, RegExp][] = [
    [{ temperature: Number.NaN }, /temperature.*NaN/],
    [{ temperature: -1 }, /temperature/],
    [{ topK: -1 }, /topK/],
    [{ stop: '' }, /stop/],
    [{ maxNewToken: 3 } as GenerateOptions, /maxNewTokens/],
    [{ logitBias: { 5000: 1 } }, /logitBias/],
  ]
  for (const [option, message] of options)
    await t.rejects(model.generate('The', option), { message })
  t.equal(
    (await model.generate('The', { maxNewTokens: 2 })).tokenIds.length,
    2,
    'the model is as good as before',
  )
})

t.test('an aborted signal', async t => {
  await t.rejects(loadModel(books, { signal: AbortSignal.abort() }), { code: 'ERR_ABORTED' })
  await using model = await loadModel(books)
  const before = await model.generate('The', { signal: AbortSignal.abort() })
  t.equal(before.finishReason, 'abort')
  t.same(before.tokenIds, [])
  const controller = new AbortController()
  const running = model.generate('The', {
    maxNewTokens: 4000,
    ignoreEos: true,
    signal: controller.signal,
  })
  setTimeout(() => controller.abort(), 30)
  const result = await running
  t.equal(result.finishReason, 'abort')
  t.ok(result.tokenIds.length < 4000)
  await t.rejects(model.forward([1, 2], { signal: AbortSignal.abort() }), { code: 'ERR_ABORTED' })
})

t.test('use after close', async t => {
  const model = await loadModel(books)
  const running = model.generate('The', { maxNewTokens: 2000, ignoreEos: true })
  running.catch(() => {})
  await model.close()
  await t.rejects(running, { code: 'ERR_CLOSED' })
  await t.rejects(model.generate('The'), { code: 'ERR_CLOSED' })
  await t.rejects(model.forward([1]), { code: 'ERR_CLOSED' })
  await t.rejects(model.score('The', ' man'), { code: 'ERR_CLOSED' })
  await t.rejects(
    async () => {
      for await (const _ of model.stream('The')) t.fail('nothing comes')
    },
    { code: 'ERR_CLOSED' },
  )
  await model.close() // again: nothing happens
})
