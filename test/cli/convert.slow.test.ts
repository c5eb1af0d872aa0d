import { existsSync, readdirSync, readFileSync } from 'node:fs'
import {
  cp,
  mkdir,
  readdir,
  readlink,
  realpath,
  rename,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { withTorchDtype } from '../../lib/convert/config-text.js'
import { type ConvertOptions, convertCheckpoint } from '../../lib/convert/convert.js'
import { loadModel } from '../../lib/load/load.js'
import type { LoadOptions } from '../../lib/options/generate.js'
import { MATRIX_TYPES } from '../../lib/options/load.js'
import { DTYPE_SIZE } from '../../lib/tensor/tensor-ref.js'
import { loadTokenizer } from '../../lib/tokenizer/tokenizer.js'
import { caseNames, type Family, goldenCase, LATENT_FAMILIES, readJson } from '../support/golden.js'
import { BOOKS, runCli } from './run-cli.js'

/** Logits of a few tokens, as bits. */
async function logits(directory: string, dtype: LoadOptions['dtype'] = 'auto'): Promise<Buffer> {
  await using model = await loadModel(directory, { dtype, threads: 1 })
  const { vocabSize } = model.config
  const tokens = Array.from({ length: 9 }, (_, i) => (i * 7 + 3) % vocabSize)
  const { logits } = await model.forward(tokens)
  return Buffer.from(logits.buffer, logits.byteOffset, logits.byteLength)
}

async function dtypes(directory: string): Promise<string[]> {
  const { tensors } = await openCheckpoint(directory)
  return [...new Set([...tensors.values()].map(tensor => tensor.dtype))].sort()
}

for (const family of ['moepp', ...LATENT_FAMILIES] as const)
  for (const name of caseNames(family)) testConversions(family, name)

function testConversions(family: Family, name: string): void {
  t.test(
    `${family}/${name}: the converted checkpoint gives the same logits, bit for bit`,
    async t => {
      const source = goldenCase(name, family)
      const folder = t.testdir()
      for (const dtype of ['auto', ...MATRIX_TYPES] as const) {
        const target = join(folder, dtype)
        const { leftOut } = await convertCheckpoint(source, target, { dtype })
        const { format, tensors, packed, files } = await openCheckpoint(target)
        t.equal(format, 'safetensors')
        t.equal(files.length, 1)
        t.ok(
          [...tensors.values()].every(ref => ref.byteOffset % DTYPE_SIZE[ref.dtype] === 0),
          'aligned',
        )
        t.equal(packed.size > 0, dtype.startsWith('int'))
        t.ok([...packed.values()].every(ref => ref.byteOffset % 64 === 0))
        t.notOk(leftOut.some(left => tensors.has(left)))
        t.ok((await logits(target)).equals(await logits(source, dtype)), `${dtype}: logits`)
      }
      t.same(await dtypes(join(folder, 'auto')), await dtypes(source))
      t.equal(
        readFileSync(join(folder, 'int8', 'config.json'), 'utf8'),
        readFileSync(join(source, 'config.json'), 'utf8'),
      )
      t.same(await dtypes(join(folder, 'float32')), ['f32'])
      t.equal(
        readFileSync(join(folder, 'auto', 'config.json'), 'utf8'),
        readFileSync(join(source, 'config.json'), 'utf8'),
      )
      const { torch_dtype, dtype = torch_dtype } = readJson<{
        torch_dtype?: string
        dtype?: string
      }>(join(folder, 'bfloat16', 'config.json'))
      t.equal(dtype, 'bfloat16')
    },
  )
}

t.test('a tied head is written once', async t => {
  const target = join(t.testdir(), 'tied')
  const { leftOut } = await convertCheckpoint(goldenCase('tied-bin'), target)
  t.same(leftOut, ['lm_head.weight'])
  t.notOk((await openCheckpoint(target)).tensors.has('lm_head.weight'))
})

t.test('shards, with an index', async t => {
  const folder = t.testdir()
  const target = join(folder, 'shards')
  const { files, weightBytes, tensors } = await convertCheckpoint(BOOKS, target, {
    maxShardBytes: 4e6,
  })
  const shards = files.filter(name => name.endsWith('.safetensors'))
  t.same(
    shards,
    [1, 2, 3, 4].map(i => `model-0000${i}-of-00004.safetensors`),
  )
  const index = readJson<{ metadata: { total_size: number }; weight_map: Record<string, string> }>(
    join(target, 'model.safetensors.index.json'),
  )
  t.equal(index.metadata.total_size, weightBytes)
  t.equal(Object.keys(index.weight_map).length, tensors)
  t.ok((await logits(target)).equals(await logits(BOOKS)))
  // A size below every tensor's: one file for each.
  const single = await convertCheckpoint(goldenCase('tied-bin'), join(folder, 'single'), {
    maxShardBytes: 1,
  })
  t.equal(single.files.filter(name => name.endsWith('.safetensors')).length, single.tensors)
})

t.test(
  'packed weights: what loading quantises, in shards too, and nothing else made of them',
  async t => {
    const folder = t.testdir()
    for (const dtype of ['int8', 'int4', 'int4-all'] as const) {
      const [ffn, others] = {
        int8: ['int8', 'int8'],
        int4: ['int4', 'int8'],
        'int4-all': ['int4', 'int4'],
      }[dtype]
      const target = join(folder, dtype)
      let [done, total] = [0, 0]
      const onProgress = (doneBytes: number, totalBytes: number) =>
        ([done, total] = [doneBytes, totalBytes])
      const result = await convertCheckpoint(BOOKS, target, {
        dtype,
        maxShardBytes: 1e6,
        onProgress,
      })
      t.equal(total, result.weightBytes)
      t.ok(done <= total)
      const { packed, tensors } = await openCheckpoint(target)
      const ofKind = (kind: RegExp) => [
        ...new Set([...packed].filter(([name]) => kind.test(name)).map(([, ref]) => ref.dtype)),
      ]
      t.same(ofKind(/experts/), [ffn], 'FFN experts')
      t.same(ofKind(/self_attn|lm_head/), [others], 'attention and head')
      t.equal(packed.size, 6 * 4 + 1)
      t.equal(tensors.get('model.embed_tokens.weight')?.dtype, 'bf16')
      t.ok((await logits(target)).equals(await logits(BOOKS, dtype)))
      t.ok((await logits(target, dtype)).equals(await logits(BOOKS, dtype)), 'the same dtype')
      await using converted = await loadModel(target)
      await using original = await loadModel(BOOKS, { dtype })
      const options = { maxNewTokens: 48, ignoreEos: true }
      t.same(
        (await converted.generate('The old man', options)).tokenIds,
        (await original.generate('The old man', options)).tokenIds,
      )
      for (const other of MATRIX_TYPES.filter(other => other !== dtype)) {
        await t.rejects(loadModel(target, { dtype: other }), {
          code: 'ERR_UNSUPPORTED',
          message:
            /is stored as int[48] and cannot be held as .*use dtype 'auto', or the checkpoint/,
        })
      }
      for (const again of ['auto', 'float32', dtype] as const) {
        await t.rejects(convertCheckpoint(target, join(folder, 'again'), { dtype: again }), {
          code: 'ERR_UNSUPPORTED',
          message: /is stored as int[48] already.*; convert the checkpoint that it was made from/,
        })
      }
    }
    t.same((await readdir(folder)).sort(), ['int4', 'int4-all', 'int8'])
  },
)

t.test('an abort while weights are packed leaves nothing', async t => {
  const folder = t.testdir()
  const controller = new AbortController()
  const converted = convertCheckpoint(BOOKS, join(folder, 'target'), {
    dtype: 'int4',
    signal: controller.signal,
    onProgress: () => controller.abort(),
  })
  await t.rejects(converted)
  t.same(await readdir(folder), [])
})

t.test('the tokenizer is the same without its tokenizer.model', async t => {
  const folder = t.testdir()
  const target = join(folder, 'books')
  await convertCheckpoint(BOOKS, target)
  t.notOk(existsSync(join(target, 'tokenizer.model')))
  const [before, after] = [await loadTokenizer(BOOKS), await loadTokenizer(target)]
  const heldOut = readFileSync(join(BOOKS, 'heldout.txt'), 'utf8').slice(0, 20_000)
  for (const text of [
    heldOut,
    '',
    ' ',
    'The old man',
    '  two\n\nlines ',
    'naïve 你好 🐛',
    '<s> 12,345',
  ]) {
    const ids = before.encode(text)
    t.same(after.encode(text), ids)
    t.equal(after.decode(ids), before.decode(ids))
  }
  t.same(after.specialTokens, before.specialTokens)
  const again = join(folder, 'again')
  await convertCheckpoint(target, again)
  const json = (directory: string) => readFileSync(join(directory, 'tokenizer.json'), 'utf8')
  t.equal(json(again), json(target), 'converting once more changes nothing')
})

t.test('a target that is there already', async t => {
  const source = goldenCase('gqa')
  const folder = t.testdir({ full: { 'notes.txt': 'mine' }, empty: {}, file: 'text' })
  const convert = (name: string, options: ConvertOptions = {}) =>
    convertCheckpoint(source, join(folder, name), options)
  await t.rejects(convert('full'), { code: 'ERR_CANNOT_WRITE', message: /full: exists already/ })
  await t.rejects(convert('full', { force: true }), {
    code: 'ERR_CANNOT_WRITE',
    message: /is not a checkpoint/,
  })
  await t.rejects(convert('file'), { code: 'ERR_CANNOT_WRITE', message: /file: exists already/ })
  await t.rejects(convert('file/below'), { code: 'ERR_CANNOT_WRITE' })
  t.equal(readFileSync(join(folder, 'full', 'notes.txt'), 'utf8'), 'mine')
  await convert('empty')
  await t.rejects(convert('empty'), { code: 'ERR_CANNOT_WRITE' })
  await convert('empty', { force: true, maxShardBytes: 1e5 })
  await convert('empty', { force: true, dtype: 'bfloat16' })
  t.same((await readdir(join(folder, 'empty'))).sort(), ['config.json', 'model.safetensors'])
  t.equal(
    readJson<{ torch_dtype: string }>(join(folder, 'empty', 'config.json')).torch_dtype,
    'bfloat16',
  )
  await convert('made/on/the/way')
  t.same((await readdir(folder)).sort(), ['empty', 'file', 'full', 'made'], 'nothing else is left')
})

t.test('what a conversion did not write is not removed', async t => {
  const folder = t.testdir()
  const target = join(folder, 'target')
  const convert = () => convertCheckpoint(goldenCase('gqa'), target, { force: true })
  const refused = (names: string) => ({
    code: 'ERR_CANNOT_WRITE',
    message: `${target}: contains files that convert did not write, and is not replaced: ${names}`,
  })
  await convert()
  await writeFile(join(target, 'notes.txt'), 'mine')
  await t.rejects(convert(), refused('notes.txt'))
  await mkdir(join(target, '.git'))
  await mkdir(join(target, 'tokenizer.json'))
  await t.rejects(convert(), refused('.git/, notes.txt, tokenizer.json/'))
  await writeFile(join(target, 'model-1-of-2.safetensors'), 'not a name of ours')
  await writeFile(join(target, 'pytorch_model.bin'), 'of the original')
  await t.rejects(convert(), refused('.git/, model-1-of-2.safetensors, notes.txt and 2 more'))
  t.equal(readFileSync(join(target, 'notes.txt'), 'utf8'), 'mine')
  t.same(await readdir(folder), ['target'], 'nothing else is left')
})

t.test('a target that is a symbolic link, or no path', async t => {
  const folder = t.testdir({ empty: {}, work: { 'notes.txt': 'mine' } })
  const linked = join(folder, 'linked')
  await convertCheckpoint(goldenCase('gqa'), linked)
  for (const name of ['empty', 'linked', 'nowhere']) {
    const link = join(folder, `link-${name}`)
    await symlink(name, link)
    for (const target of [link, `${link}/`]) {
      for (const force of [false, true]) {
        await t.rejects(convertCheckpoint(goldenCase('gqa'), target, { force }), {
          code: 'ERR_CANNOT_WRITE',
          message: `${target}: is a symbolic link, name the directory itself`,
        })
      }
    }
    t.equal(await readlink(link), name)
  }
  t.same((await readdir(linked)).sort(), ['config.json', 'model.safetensors'])
  const before = process.cwd()
  process.chdir(linked)
  t.teardown(() => process.chdir(before))
  for (const force of [false, true]) {
    await t.rejects(convertCheckpoint(goldenCase('gqa'), '', { force }), {
      code: 'ERR_CANNOT_WRITE',
      message: 'the path of the directory to make is empty',
    })
  }
  t.equal(await realpath('.'), await realpath(linked), 'the working directory is still there')
})

t.test('the source is not replaced', async t => {
  const folder = t.testdir()
  const source = join(folder, 'model')
  await cp(goldenCase('gqa'), source, { recursive: true })
  for (const target of [source, folder]) {
    const converted = convertCheckpoint(source, target, { force: true })
    await t.rejects(converted, {
      code: 'ERR_CANNOT_WRITE',
      message: /holds the checkpoint that is converted/,
    })
  }
  await convertCheckpoint(source, join(source, 'below'))
})

t.test('an abort leaves nothing', async t => {
  const folder = t.testdir()
  const target = join(folder, 'target')
  await t.rejects(convertCheckpoint(BOOKS, target, { signal: AbortSignal.abort() }))
  const controller = new AbortController()
  const converted = convertCheckpoint(BOOKS, target, {
    signal: controller.signal,
    maxShardBytes: 1e5,
  })
  const written = setInterval(() => {
    if (readdirSync(folder).length > 0) controller.abort()
  }, 1)
  await t.rejects(converted)
  clearInterval(written)
  t.same(await readdir(folder), [])
})

t.test('broken checkpoints leave nothing', async t => {
  const folder = t.testdir()
  const source = join(folder, 'source')
  await cp(goldenCase('gqa'), source, { recursive: true })
  const shard = join(source, 'model-00002-of-00002.safetensors')
  await writeFile(shard, readFileSync(shard).subarray(0, 100_000))
  await t.rejects(convertCheckpoint(source, join(folder, 'target')), { code: 'ERR_BAD_FILE' })
  await rename(shard, `${shard}.away`)
  await t.rejects(convertCheckpoint(source, join(folder, 'target')), { code: 'ERR_NOT_FOUND' })
  t.same(await readdir(folder), ['source'])
})

t.test(
  'torch_dtype is set in the text of config.json, whose other numbers stay as they are written',
  async t => {
    const set = (text: string) => withTorchDtype(text, 'bfloat16', 'config.json')
    t.equal(
      set('{"factor": 2.0, "torch_dtype": "float32"}'),
      '{"factor": 2.0, "torch_dtype": "bfloat16"}',
    )
    t.equal(
      set('{"torch_dtype":null,"dtype":"float32"}'),
      '{"torch_dtype":"bfloat16","dtype":"bfloat16"}',
    )
    t.same(JSON.parse(set('{"a": 1e-06}')), { torch_dtype: 'bfloat16', a: 1e-6 })
    t.same(JSON.parse(set('{ }')), { torch_dtype: 'bfloat16' })
    const nested = '{"x": {"torch_dtype": "a"}, "torch_dtype": "b"}'
    t.throws(() => set(nested), { code: 'ERR_BAD_CONFIG' }, 'the wrong one would be replaced')
  },
)

t.test('the command', async t => {
  const folder = t.testdir()
  const target = join(folder, 'out')
  const first = await runCli(['convert', goldenCase('n12-legacy'), target])
  t.equal(first.code, 0)
  t.equal(first.stderr, '', 'no bar without a terminal')
  t.match(
    first.stdout,
    /out: 2 files, 87 tensors, 407 kB\nleft out, not part of the model: .*inv_freq/,
  )
  const second = await runCli(['convert', goldenCase('n12-legacy'), target])
  t.equal(second.code, 1)
  t.match(second.stderr, /^moepp: ERR_CANNOT_WRITE: .*out: exists already\n$/)
  const forced = await runCli([
    'convert',
    goldenCase('n12-legacy'),
    target,
    '--force',
    '--max-shard-size',
    '1MB',
  ])
  t.equal(forced.code, 0)
  await mkdir(join(folder, 'more'))
  t.same((await readdir(folder)).sort(), ['more', 'out'])
})
