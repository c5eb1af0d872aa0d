import t from 'tap'
import type { BenchReport, BenchResult } from '../../lib/benchmark/benchmark.js'
import { benchMarkdown, benchTable } from '../../lib/cli/bench-report.js'
import { BOOKS, runCli } from './run-cli.js'
import { runHere } from './run-here.js'

const TESTS = ['--tests', 'pp32,pp16x2,tg4@8x3', '--repetitions', '2']

const resultOf = (name: string, majorPageFaults: number[]) => ({
  workload: { name, kind: 'prefill', tokens: 1, context: 0, batch: 1 } as const,
  samples: [1, 1],
  mean: 1,
  sd: 0,
  ffnExpertsPerToken: 1,
  workPerToken: 1,
  majorPageFaults,
  ceilings: null,
  ceiling: null,
})
const reportOf = (results: BenchResult[], debug: string[] = []) =>
  ({
    device: { name: 'cpu', isa: 'scalar', threads: 1, model: 'none', debug },
    config: {},
    memory: { peakBytes: 1, weightBytes: 1, kvCacheBytes: 0, ratio: 1 },
    loadSeconds: 1,
    firstTokenSeconds: 1,
    results,
  }) as unknown as BenchReport

t.test('bench -o json', async t => {
  const { code, stdout, stderr } = await runCli(['bench', '--model', BOOKS, ...TESTS, '-o', 'json'])
  t.equal(code, 0, stderr)
  const report = JSON.parse(stdout)
  t.match(report, {
    model: 'books-7m',
    layers: 6,
    dtype: 'bfloat16',
    repetitions: 2,
    device: { name: 'cpu' },
  })
  t.ok(report.loadSeconds > 0)
  t.ok(report.firstTokenSeconds > report.loadSeconds)
  const { peakBytes, weightBytes, kvCacheBytes, ratio } = report.memory
  t.ok(peakBytes > weightBytes)
  t.equal(ratio, peakBytes / (weightBytes + kvCacheBytes))
  t.ok(report.memory.weightBytes > 7e6)
  t.same(
    report.results.map((result: { name: string }) => result.name),
    ['pp32', 'pp16x2', 'tg4@8x3'],
  )
  for (const result of report.results) {
    const { name, samples, mean, sd, ffnExpertsPerToken, majorPageFaults, ceilings, ceiling } =
      result
    t.equal(samples.length, 2, name)
    t.ok(Math.abs(mean - (samples[0] + samples[1]) / 2) < 1e-6 * mean)
    t.ok(Math.abs(sd - Math.abs(samples[0] - samples[1]) / Math.SQRT2) < 1e-6 * mean)
    t.ok(ffnExpertsPerToken > 0 && ffnExpertsPerToken <= 2)
    t.match(ceiling.name, name.startsWith('tg') ? /^read$/ : /^(f32_fma|bf16_amx)$/)
    t.ok(ceiling.share > 0)
    t.equal(majorPageFaults.length, 2)
    const { readBandwidth, peaks } = ceilings
    t.ok(
      readBandwidth > 1e8 && Object.values<number>(peaks).every(rate => rate > 1e8),
      'all of them',
    )
    t.ok(peaks.f32_fma)
    const limit = name.startsWith('tg') ? readBandwidth : peaks[ceiling.name]
    t.ok(Math.abs(ceiling.rate - limit) < 1e-6 * limit)
  }
})

t.test('bench as table and markdown', async t => {
  const table = await runCli(['bench', '--model', BOOKS, ...TESTS])
  t.equal(table.code, 0)
  t.match(
    table.stdout,
    /^ {2}test +tokens\/s .*\n {2}pp32 +[\d,.]+ +[\d,.]+ +[\d.]+ .* (f32_fma|bf16_amx)\n/m,
  )
  t.match(table.stdout, /^ {2}tg4@8x3 +.* % +[\d.]+ GB\/s read$/m)
  t.match(table.stdout, /^loaded in [\d.]+ s, first token after [\d.]+ s; 2 repetitions$/m)
  t.match(table.stdout, /^peak memory [\d.]+ MB, [\d.]+ times weights \(/m)
  t.match(table.stderr, /^moepp: pp32: [\d,.]+ tokens\/s$/m)
  const markdown = await runCli([
    'bench',
    '--model',
    BOOKS,
    '-o',
    'markdown',
    '--isa',
    'scalar',
    ...TESTS,
  ])
  t.equal(markdown.code, 0)
  t.match(markdown.stdout, /^\| test \| tokens\/s \|.*\n\| --- \|.*\n\| pp32 \| [\d,.]+ \|/m)
  t.match(markdown.stdout, /, scalar, /)
})

t.test('rates are plain numbers, whatever their size', t => {
  const rates: [number, number, RegExp][] = [
    [31_784.3, 3299.6, /^ {2}pp1 +31,784 +3,300 +1 /m],
    [45.678, 0.123, /^ {2}pp1 +45\.7 +0\.1 +1 /m],
    [0.5, 0, /^ {2}pp1 +0\.50 +0\.00 +1 /m],
  ]
  for (const [mean, sd, expected] of rates)
    t.match(benchTable('m', reportOf([{ ...resultOf('pp1', [0]), mean, sd }])), expected)
  t.end()
})

t.test('a test that waited for the disk is named', t => {
  const [quiet, loud] = [resultOf('pp1', [0, 0]), resultOf('tg1', [7, 1200])]
  for (const render of [benchTable, benchMarkdown]) {
    t.match(
      render('m', reportOf([quiet, loud])),
      /\n\nWarning: .* from disk during tg1 \(up to 1,200 pages\):/,
    )
    t.notMatch(render('m', reportOf([quiet])), /Warning/)
  }
  t.end()
})

t.test('what is wrong is named before the model is loaded', async t => {
  const wrong = [
    [['--tests', 'pp512@3'], /--tests: expected names like pp512/],
    ...['0', '0x1', '1e0', '1.5', '', ' 1', '99999999999999999999'].map(
      text =>
        [
          ['--repetitions', text],
          /argument '.*' is invalid. Expected an integer from 1.$/m,
        ] as const,
    ),
    [['--threads', '0'], /--threads: expected/],
    [['-o', 'csv'], /table, markdown, json/],
  ] as const
  for (const [args, message] of wrong) {
    const { code, stderr } = await runHere(['bench', '--model', 'does-not-exist/at-all', ...args])
    t.equal(code, 2, stderr)
    t.match(stderr, message)
  }
})

t.test('bench: what the refusal of a large model proposes is a flag here, too', async t => {
  const { code, stderr } = await runHere(['bench', '--no-memory-check', '--model', './nowhere'])
  t.equal(code, 1)
  t.match(stderr, /ERR_NOT_FOUND: .*nowhere/)
})

t.test('what MOEPP_CUDA_DEBUG switches off is printed', async t => {
  const results = [resultOf('pp1', [0])]
  for (const render of [benchTable, benchMarkdown]) {
    t.match(render('m', reportOf(results, ['no-pdl', 'sync'])), 'MOEPP_CUDA_DEBUG: no-pdl, sync')
    t.notMatch(render('m', reportOf(results)), 'MOEPP_CUDA_DEBUG')
  }
})
