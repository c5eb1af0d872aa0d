import t from 'tap'
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatRatio,
  formatTable,
} from '../../lib/cli/format.js'
import { packageVersion } from '../../lib/doctor.js'
import { BOOKS, runCli } from './run-cli.js'

t.test('help names the commands and shows examples', async t => {
  const { code, stdout, stderr } = await runCli(['--help'])
  t.equal(code, 0)
  t.equal(stderr, '')
  for (const command of ['generate', 'inspect', 'convert', 'bench', 'doctor'])
    t.match(stdout, `  ${command} `)
  t.match(stdout, /Examples:\n {2}\$ moepp generate --model/)
})

t.test('help of each command', async t => {
  const expected = {
    generate: [
      '--top-k <n>',
      '--no-repeat-ngram-size <n>',
      '--context-length <n>',
      '--json',
      'Generation options:',
    ],
    inspect: ['--tensors', '--json', '--revision <name>', 'Examples:'],
    convert: ['--dtype <type>', '--max-shard-size <size>', '--force', 'Hub options:'],
    bench: [
      '--tests <names>',
      '--repetitions <n>',
      '--isa <name>',
      '--dtype <type>',
      '-o, --output',
    ],
    doctor: ['--json', '--verbose'],
  }
  for (const [command, parts] of Object.entries(expected)) {
    const { code, stdout } = await runCli([command, '--help'])
    t.equal(code, 0)
    for (const part of parts) t.ok(stdout.includes(part), `${command}: ${part}`)
    t.notOk(
      stdout.split('\n').some(line => line.length > 100),
      'no line is wider than 100',
    )
  }
})

t.test("the version is the package's", async t => {
  t.same(await runCli(['--version']), { code: 0, stdout: `${packageVersion()}\n`, stderr: '' })
})

t.test('a wrong command line is exit code 2 and one message', async t => {
  const model = ['--model', BOOKS]
  const cases: [string[], RegExp][] = [
    [
      ['generate', ...model, '--temprature', '1'],
      /^moepp: unknown option '--temprature'\n\(Did you mean --temperature\?\)\n$/,
    ],
    [['inspct'], /^moepp: unknown command 'inspct'\n\(Did you mean inspect\?\)\n$/],
    [['generate'], /^moepp: required option '--model <model>' not specified\n$/],
    [['inspect'], /^moepp: missing required argument 'model'\n$/],
    [['generate', ...model, 'a', 'b'], /^moepp: too many arguments/],
    [
      ['generate', ...model, '--top-k', 'many'],
      /^moepp: option '--top-k <n>' argument 'many' is invalid. Expected a number.\n$/,
    ],
    [
      ['generate', ...model, '--top-k', '1.5'],
      /^moepp: --top-k: expected an integer >= 0, got 1.5\n$/,
    ],
    [
      ['generate', ...model, '--top-p', '2'],
      /^moepp: --top-p: expected a number >= 0 and <= 1, got 2\n$/,
    ],
    [
      ['generate', ...model, '--temperature', 'NaN'],
      /^moepp: option '--temperature <t>' argument 'NaN' is invalid/,
    ],
    [
      ['generate', ...model, '--logit-bias', '3'],
      /^moepp: option '--logit-bias <id=x>' argument '3' is invalid/,
    ],
    [['generate', ...model, '--logit-bias', '3=200'], /^moepp: --logit-bias\[3\]: expected/],
    [
      ['generate', ...model, '--stop-token-ids', '1,9999'],
      /^moepp: --stop-token-ids\[1\]: expected an integer from 0 to 2047, got 9999\n$/,
    ],
    [
      ['generate', ...model, '--threads', '0'],
      /^moepp: --threads: expected an integer from 1 to 1024, got 0\n$/,
    ],
    [
      ['generate', ...model, '--isa', 'mmx'],
      /^moepp: --isa: expected one of "auto", .*"scalar", got "mmx"\n$/,
    ],
    [
      ['bench', ...model, '--isa', 'scalar', '--device', 'cuda'],
      /^moepp: --isa: applies to the CPU only; expected "auto" with device "cuda:0", got "scalar"\n$/,
    ],
    [['generate', ...model, '--device', 'tpu'], /^moepp: --device: expected one of/],
    [
      ['generate', ...model, '--dtype', 'int2'],
      /^moepp: option '--dtype <type>' argument 'int2' is invalid. Allowed choices/,
    ],
    [
      ['convert', BOOKS, '/nowhere', '--max-shard-size', '5q'],
      /Expected a size like 500MB, 5GB or 4GiB.\n$/,
    ],
  ]
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await runCli(args)
    t.equal(code, 2, args.join(' '))
    t.equal(stdout, '')
    t.match(stderr, message)
  }
})

t.test('no command shows help', async t => {
  const { code, stderr } = await runCli([])
  t.equal(code, 2)
  t.match(stderr, /^Usage: moepp/)
})

t.test('a failure is exit code 1, its code and message, and a stack only on request', async t => {
  const args = ['inspect', '/does/not/exist']
  const message =
    'moepp: ERR_NOT_FOUND: /does/not/exist: no such directory, and not a hub id (owner/name)\n'
  t.same(await runCli(args), { code: 1, stdout: '', stderr: message })
  const verbose = await runCli([...args, '--verbose'])
  t.match(verbose.stderr, /^moepp: ERR_NOT_FOUND: .*\nMoeppError: .*\n {4}at /)
  const debug = await runCli(args, { env: { MOEPP_DEBUG: '1' } })
  t.match(debug.stderr, /\n {4}at /)
})

t.test('numbers and tables', async t => {
  t.equal(formatCount(7003680), '7,003,680')
  t.same([0, 999, 1000, 999499, 999999, 28014720, 5e9].map(formatBytes), [
    '0 B',
    '999 B',
    '1.00 kB',
    '999 kB',
    '1.00 MB',
    '28.0 MB',
    '5.00 GB',
  ])
  t.same([0, 59.2, 75].map(formatDuration), ['0 s', '1:00 min', '1:15 min'])
  t.same([2, 4 / 3, 1.062].map(formatRatio), ['2', '1.33', '1.06'])
  t.equal(
    formatTable(
      [
        ['a', '1'],
        ['bcd', '23'],
      ],
      ['left', 'right'],
    ),
    '  a     1\n  bcd  23',
  )
})
