import t from 'tap'
import { BOOKS, runCli } from './run-cli.js'

const TESTS = ['--tests', 'pp32,pp16x2,tg4@8x3', '--repetitions', '2']

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
  t.ok(report.memory.peakBytes > report.memory.weightBytes)
  t.ok(report.memory.weightBytes > 7e6)
  t.same(
    report.results.map((result: { name: string }) => result.name),
    ['pp32', 'pp16x2', 'tg4@8x3'],
  )
  for (const { name, samples, mean, sd, ffnExpertsPerToken, ceiling } of report.results) {
    t.equal(samples.length, 2, name)
    t.ok(Math.abs(mean - (samples[0] + samples[1]) / 2) < 1e-6 * mean)
    t.ok(Math.abs(sd - Math.abs(samples[0] - samples[1]) / Math.SQRT2) < 1e-6 * mean)
    t.ok(ffnExpertsPerToken > 0 && ffnExpertsPerToken <= 2)
    t.match(ceiling.name, name.startsWith('tg') ? /^read$/ : /^(f32_fma|bf16_amx)$/)
    t.ok(ceiling.share > 0)
  }
})

t.test('bench as table and markdown', async t => {
  const table = await runCli(['bench', '--model', BOOKS, ...TESTS])
  t.equal(table.code, 0)
  t.match(table.stdout, /^ {2}test +tokens\/s .*\n {2}pp32 +[\d.e+]+ .* (f32_fma|bf16_amx)\n/m)
  t.match(table.stdout, /^ {2}tg4@8x3 +.* % +[\d.]+ GB\/s read$/m)
  t.match(table.stderr, /^moepp: pp32: [\d,.]+ tokens\/s$/m)
  const markdown = await runCli(['bench', '--model', BOOKS, '-o', 'markdown', '--isa', 'scalar', ...TESTS])
  t.equal(markdown.code, 0)
  t.match(markdown.stdout, /^\| test \| tokens\/s \|.*\n\| --- \|.*\n\| pp32 \| [\d.e+]+ \|/m)
  t.match(markdown.stdout, /, scalar, /)
})

t.test('what is wrong is named before the model is loaded', async t => {
  const wrong = [
    [['--tests', 'pp512@3'], /--tests: expected names like pp512/],
    [['--repetitions', '0'], /Expected a number from 1/],
    [['--threads', '0'], /--threads: expected/],
    [['-o', 'csv'], /table, markdown, json/],
  ] as const
  for (const [args, message] of wrong) {
    const { code, stderr } = await runCli(['bench', '--model', 'does-not-exist/at-all', ...args])
    t.equal(code, 2, stderr)
    t.match(stderr, message)
  }
})
