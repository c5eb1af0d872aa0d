import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import t from 'tap'
import { convertCheckpoint } from '../../lib/convert/convert.js'
import { inspectCheckpoint } from '../../lib/convert/inspect.js'
import type { MemoryEstimate } from '../../lib/load/memory-estimate.js'
import { PARAMETER_KINDS } from '../../lib/program/model-spec.js'
import { goldenCase } from '../support/golden.js'
import { BOOKS, runCli } from './run-cli.js'
import { runHere } from './run-here.js'

t.test('the bundled model, for people', async t => {
  const { code, stdout, stderr } = await runCli(['inspect', BOOKS])
  t.equal(code, 0)
  t.equal(stderr, '')
  t.match(stdout, /torch \.bin \(bf16\), 2 files, 14\.1 MB/)
  t.match(stdout, /experts +12: 8 FFN of 192, 2 constant, 1 copy, 1 zero; a token picks 2\n/)
  t.match(stdout, /\n {2}total +7,003,680\n/)
  t.match(stdout, /\n {2}weights +28\.0 MB +14\.1 MB +9\.80 MB +6\.37 MB +5\.55 MB\n/)
  t.match(stdout, /\n {2}KV cache per 1,024 tokens, on a CPU( +9\.44 MB){2}( +4\.72 MB){3}\n/)
  t.match(stdout, /\n {2}KV cache per 1,024 tokens, on a GPU +9\.44 MB( +4\.72 MB){4}\n/)
  t.notMatch(stdout, /q_proj/)
  const { stdout: withTensors } = await runCli(['inspect', BOOKS, '--tensors'])
  t.match(
    withTensors,
    /model\.layers\.5\.self_attn\.q_proj\.weight +bf16 +\[192, 192\] +pytorch_model-00002-of-00002\.bin\n/,
  )
})

t.test('the bundled model, as JSON', async t => {
  const { code, stdout } = await runCli(['inspect', BOOKS, '--json'])
  t.equal(code, 0)
  const { parameters, tensors, config, memory, otherTensors } = JSON.parse(stdout)
  t.equal(parameters.total, 7_003_680)
  t.same(parameters.byKind, {
    embedding: 2048 * 192,
    ngrams: 0,
    attention: 6 * 4 * 192 * 192,
    router: 6 * (12 * 192 + 12 * 12),
    ffnExperts: 6 * 8 * 3 * 192 * 192,
    denseFfn: 0,
    constantExperts: 6 * 2 * 3 * 192,
    norms: 13 * 192,
    head: 2048 * 192,
  })
  t.equal(config.layers, 6)
  t.equal(tensors.length, 171)
  t.same(otherTensors, [])
  const { least, even, most } = parameters.activePerToken
  const ofExpert = 3 * 192 * 192
  t.equal(most.ffnExpertsPerToken, 2)
  t.equal(even.ffnExpertsPerToken, (2 * 8) / 12)
  t.equal(most.parameters - least.parameters, 6 * 2 * ofExpert)
  t.equal(even.parameters - least.parameters, Math.round((6 * 2 * 8 * ofExpert) / 12))
  // Without the other rows of the embedding, and the map of layer 0, which nothing reads.
  t.equal(least.parameters, 7_003_680 - 6 * 8 * ofExpert - 2047 * 192 - 144)
  t.equal(memory.weightBytes.float32, 4 * (7_003_680 - 144))
  t.equal(memory.kvCacheBytesPer1024Tokens.bfloat16, 2 * 6 * 192 * 1024 * 2)
})

t.test('a tied head counts once, and is read whole', async t => {
  const { parameters, otherTensors, config } = await inspectCheckpoint(goldenCase('tied-bin'))
  t.equal(parameters.byKind.head, 0)
  t.same(otherTensors, ['lm_head.weight'])
  const { byKind, total } = parameters
  t.equal(
    total,
    PARAMETER_KINDS.reduce((sum, kind) => sum + byKind[kind], 0),
  )
  t.ok(parameters.activePerToken.least.parameters > config.vocabSize * config.hiddenSize)
})

t.test('packed weights', async t => {
  const target = join(t.testdir(), 'packed')
  await convertCheckpoint(BOOKS, target, { dtype: 'int4' })
  const { parameters, memory, tensors, otherTensors } = await inspectCheckpoint(target)
  const { parameters: before, memory: original } = await inspectCheckpoint(BOOKS)
  t.same(parameters, before, 'the same parameters')
  t.same(memory.weightBytes, { int4: original.weightBytes.int4 })
  t.same(otherTensors, [])
  t.match(
    tensors.find(({ name }) => name === 'model.layers.0.mlp.moe.experts.experts.up_proj'),
    { dtype: 'int4', shape: [8, 2 * 192, 192] },
  )
  const { stdout } = await runCli(['inspect', target, '--tensors'])
  t.match(stdout, /safetensors \((int8|int4|bf16|, )+\), 1 file, /)
  t.match(stdout, /self_attn\.qkv_proj +int8 +\[576, 192\]/)
  t.match(stdout, /\n {2}weights +6\.37 MB\n {2}KV cache[^\n]*CPU +4\.72 MB\n/)
  const { stdout: estimated } = await runCli(['inspect', target, '--memory', '--device', 'cpu'])
  t.match(estimated, /\n {13,} int4\n {2}device +cpu\n {2}weights +6\.37 MB\n/)
  t.match(estimated, /\n {2}of it mapped +[456]\.\d+ MB\n/)
})

t.test('packed weights in int4 throughout have their own type', async t => {
  const target = join(t.testdir(), 'packed')
  await convertCheckpoint(BOOKS, target, { dtype: 'int4-all' })
  const { memory } = await inspectCheckpoint(target)
  const { memory: original } = await inspectCheckpoint(BOOKS)
  t.same(memory.weightBytes, { 'int4-all': original.weightBytes['int4-all'] })
  t.ok(original.weightBytes['int4-all']! < original.weightBytes.int4!)
  const { stdout } = await runCli(['inspect', target, '--memory', '--device', 'cpu', '--tensors'])
  t.match(stdout, /\n {9,} int4-all\n {2}device +cpu\n/)
  t.match(stdout, /self_attn\.qkv_proj +int4 +\[576, 192\]/)
  t.match(stdout, /lm_head\.weight +int4 +\[2,?048, 192\]/)
})

t.test('--memory: what loading needs, by type', async t => {
  const flags = ['--memory', '--device', 'cpu', '--context-length', '2000', '--threads', '2']
  const { code, stdout } = await runCli(['inspect', BOOKS, ...flags])
  t.equal(code, 0)
  t.match(stdout, /\nTo load it, with texts of up to 2,000 tokens and a KV cache of 8,192\n/)
  t.match(stdout, /\n +float32 +bfloat16 +int8 +int4 +int4-all\n {2}device( +cpu){5}\n/)
  t.match(stdout, /\n {2}KV cache( +75\.5 MB){2}( +37\.7 MB){3}\n/)
  t.match(stdout, /\n {2}needed to load( +[\d.]+ MB){5}\n {2}available now/)
  t.match(stdout, /\n {2}available now( +[\d.]+ [MGT]B){5}\n {2}fits( +(yes|no)){5}\n/)
  const json = await runCli(['inspect', BOOKS, '--json', ...flags])
  const { estimates } = JSON.parse(json.stdout)
  t.same(
    estimates.map((e: { dtype: string }) => e.dtype),
    ['float32', 'bfloat16', 'int8', 'int4', 'int4-all'],
  )
  t.match(estimates[2], { contextLength: 2000, kvCacheDtype: 'bfloat16', mappedBytes: 0 })
  const alone = await runCli(['inspect', BOOKS, '--context-length', '2000'])
  t.not(alone.code, 0)
  t.match(alone.stderr, /--context-length: expected together with --memory/)
})

t.test('--memory reads the memory available once for all types', async t => {
  const { readFileSync } = fs
  let reads = 0
  const changing = ((path: string, ...rest: never[]) => {
    if (path !== '/proc/meminfo') return readFileSync(path, ...rest)
    return `MemAvailable: ${++reads * 1000} kB\n`
  }) as typeof readFileSync
  t.teardown(() => {
    fs.readFileSync = readFileSync
    syncBuiltinESMExports()
  })
  fs.readFileSync = changing
  syncBuiltinESMExports()
  const { stdout } = await runHere(['inspect', BOOKS, '--memory', '--json', '--device', 'cpu'])
  const { estimates } = JSON.parse(stdout)
  t.equal(reads, 1)
  t.equal(new Set(estimates.map((e: MemoryEstimate) => e.availableBytes)).size, 1)
})
