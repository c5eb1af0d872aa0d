import { join } from 'node:path'
import { Command } from 'commander'
import t from 'tap'
import { packageVersion } from '../../lib/addon/addon-file.js'
import { reportError } from '../../lib/cli/errors.js'
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatRate,
  formatRatio,
  formatTable,
} from '../../lib/cli/format.js'
import type { Terminal } from '../../lib/cli/terminal.js'
import { MoeppError } from '../../lib/errors.js'
import { BOOKS } from './run-cli.js'
import { runHere } from './run-here.js'

t.test('help names the commands and shows examples', async t => {
  const { code, stdout, stderr } = await runHere(['--help'])
  t.equal(code, 0)
  t.equal(stderr, '')
  for (const command of ['generate', 'chat', 'inspect', 'convert', 'bench', 'doctor'])
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
    chat: ['--system <text>', '--template-variable <name=value>', '--top-k <n>', 'JSON Lines:'],
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
    const { code, stdout } = await runHere([command, '--help'])
    t.equal(code, 0)
    for (const part of parts) t.ok(stdout.includes(part), `${command}: ${part}`)
    t.notOk(
      stdout.split('\n').some(line => line.length > 100),
      'no line is wider than 100',
    )
  }
})

t.test("the version is the package's", async t => {
  t.same(await runHere(['--version']), { code: 0, stdout: `${packageVersion()}\n`, stderr: '' })
})

t.test('a wrong command line is exit code 2 and one message', async t => {
  const model = ['--model', BOOKS]
  const cases: [string[], RegExp][] = [
    [
      ['generate', ...model, '--temprature', '1'],
      /^moepp: unknown option '--temprature'\n\(Did you mean --temperature\?\)\n$/,
    ],
    [['inspct'], /^moepp: unknown command 'inspct'\n\(Did you mean inspect\?\)\n$/],
    [
      ['generate'],
      /^moepp: no model is given: .* MOEPP_MODEL\n {2}moepp generate --model .*\n.* npx moepp demo\n$/,
    ],
    [['bench'], /^moepp: no model is given: .*\n {2}moepp bench --model/],
    [['chat'], /^moepp: no model is given: .*\n {2}moepp chat --model/],
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
      /Expected a size of at least 1MB, like 500MB, 5GB or 4GiB.\n$/,
    ],
    [['convert', BOOKS, '/nowhere', '--max-shard-size', '5'], /Expected a size of at least 1MB/],
    [['convert', BOOKS, '/nowhere', '--max-shard-size', '999kB'], /Expected a size of at least/],
  ]
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await runHere(args)
    t.equal(code, 2, args.join(' '))
    t.equal(stdout, '')
    t.match(stderr, message)
  }
})

t.test('what other tools call it', async t => {
  const cases: [string[], string | RegExp][] = [
    [['--max-tokens', '5'], "unknown option '--max-tokens': moepp calls it --max-new-tokens"],
    [['--n-predict', '5'], "unknown option '--n-predict': moepp calls it --max-new-tokens"],
    [['-n', '5'], "unknown option '-n': moepp calls it --max-new-tokens"],
    [['-m', 'x'], "unknown option '-m': moepp calls it --model"],
    [['-c', '5'], "unknown option '-c': moepp calls it --context-length"],
    [['-ngl', '99'], "unknown option '-ngl': moepp calls it --device"],
    [['--temp', '1'], "unknown option '--temp': moepp calls it --temperature"],
    [['-f', 'x'], "unknown option '-f': moepp calls it --prompts"],
    [
      ['--max_new_tokens', '5'],
      "unknown option '--max_new_tokens': did you mean --max-new-tokens?",
    ],
    [['--topK', '5'], "unknown option '--topK': did you mean --top-k?"],
    [['--prompt', 'x'], /^unknown option '--prompt': the prompt is an argument: moepp generate "/],
    [['-p', 'x'], /^unknown option '-p': the prompt is an argument: moepp generate "/],
    [['--modl', 'models/x'], "unknown option '--modl'\n(Did you mean --model?)"],
    [['--constructor', 'x'], "unknown option '--constructor'"],
    [
      ['The', 'old', 'man'],
      /^too many arguments .*\nQuote a prompt of several words: moepp generate "The old man"$/,
    ],
  ]
  for (const [args, message] of cases) {
    const { code, stderr } = await runHere(['generate', ...args])
    t.equal(code, 2)
    t.match(stderr, /^moepp: .*\n$/s)
    t.match(stderr.slice('moepp: '.length, -1), message)
  }
  const chat = await runHere(['chat', '--system-prompt', 'x'])
  t.equal(chat.stderr, "moepp: unknown option '--system-prompt': moepp calls it --system\n")
  const convert = await runHere(['convert', '--max-tokens', '5', 'a', 'b'])
  t.equal(convert.stderr, "moepp: unknown option '--max-tokens'\n", 'convert has none')
  for (const [command, message] of [
    [
      'run',
      /: to talk with a model: moepp chat --model MODEL; to continue a prompt: moepp generate/,
    ],
    ['talk', /: to talk with a model: moepp chat --model/],
    ['The old man', /: to continue a prompt: moepp generate "/],
    ['valueOf', /^moepp: unknown command 'valueOf'\n$/],
  ] as const) {
    const { code, stderr } = await runHere([command])
    t.equal(code, 2)
    t.match(stderr, `moepp: unknown command '${command}'`)
    t.match(stderr, message)
  }
})

t.test('flags that would have no effect', async t => {
  const model = ['--model', BOOKS, '--max-new-tokens', '2']
  const wrong: [string[], RegExp][] = [
    [['--logprobs', '5'], /^moepp: --logprobs: plain text cannot show it; add --json\n$/],
    [['--routing'], /^moepp: --routing: plain text cannot show it/],
    [['--echo', '--json'], /^moepp: --echo: only for plain text/],
    [['--out', 'x'], /^moepp: --out: needs --prompts FILE\n$/],
    [['--prompts', 'x', '--json'], /^moepp: --json: --prompts always writes JSON/],
    [
      ['--prompts', 'x', 'text'],
      /^moepp: a prompt and --prompts exclude each other, got "text"\n$/,
    ],
    [
      ['--num-return-sequences', '2'],
      /^moepp: --num-return-sequences: expected 1 without sampling, got 2; a temperature/,
    ],
    [['--num-return-sequences', '2', '--temperature', '0'], /expected 1 without sampling/],
  ]
  for (const [args, message] of wrong) {
    const { code, stdout, stderr } = await runHere(['generate', ...model, ...args])
    t.equal(code, 2, args.join(' '))
    t.equal(stdout, '')
    t.match(stderr, message)
  }
  const ignored: [string[], string | undefined][] = [
    [['--top-p', '0.9'], '--top-p'],
    [['--top-k', '5', '--min-p', '0.1', '--temperature', '0'], '--top-k, --min-p'],
    [['--temperature', '0.5', '--no-do-sample', '--typical-p', '1'], '--temperature, --typical-p'],
    [['--top-p', '0.9', '--temperature', '1'], undefined],
    [['--top-p', '0.9', '--do-sample'], undefined],
    [['--seed', '1'], undefined],
  ]
  for (const [args, names] of ignored) {
    const { code, stderr } = await runHere(['generate', ...model, ...args])
    t.equal(code, 0)
    const warning =
      names && `moepp: warning: no effect without sampling: ${names} (--do-sample turns it on)\n`
    t.equal(
      stderr.split(/(?<=\n)/).find(line => line.includes('warning')),
      warning,
    )
  }
})

t.test('the model from the environment', async t => {
  t.teardown(() => delete process.env.MOEPP_MODEL)
  process.env.MOEPP_MODEL = '/does/not/exist'
  t.match((await runHere(['generate'])).stderr, /ERR_NOT_FOUND: \/does\/not\/exist/)
  t.match((await runHere(['generate', '--model', '/other'])).stderr, /ERR_NOT_FOUND: \/other/)
  process.env.MOEPP_MODEL = ''
  t.match((await runHere(['generate'])).stderr, /no model is given/)
})

t.test('warnings of the library are shown once, and in one line', async t => {
  const seen: string[] = []
  const others = (warning: Error) => seen.push(warning.message)
  process.on('warning', others)
  t.teardown(() => process.off('warning', others))
  const listeners = process.listeners('warning')
  const running = runHere(['inspect', BOOKS])
  for (const [message, type] of [
    ['ours', 'MoeppWarning'],
    ['ours', 'MoeppWarning'],
    ['of others', 'OtherWarning'],
  ] as const)
    process.emitWarning(message, type)
  const { stderr } = await running
  t.equal(stderr, 'moepp: warning: ours\n')
  t.same(seen, ['of others'])
  t.same(process.listeners('warning'), listeners, 'as before')
})

t.test('no command shows help', async t => {
  const { code, stderr } = await runHere([])
  t.equal(code, 2)
  t.match(stderr, /^Usage: moepp/)
})

t.test('a failure is exit code 1, its code and message, and a stack only on request', async t => {
  const args = ['inspect', '/does/not/exist']
  const message =
    'moepp: ERR_NOT_FOUND: /does/not/exist: no such directory, and not a hub id (owner/name)\n'
  t.same(await runHere(args), { code: 1, stdout: '', stderr: message })
  const verbose = await runHere([...args, '--verbose'])
  t.match(verbose.stderr, /^moepp: ERR_NOT_FOUND: .*\nMoeppError: .*\n {4}at /)
  process.env.MOEPP_DEBUG = '1'
  t.teardown(() => delete process.env.MOEPP_DEBUG)
  const debug = await runHere(args)
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
  t.same(
    [31_780.4, 99.96, 45.67, 9.996, 3.2, 0].map(rate => formatRate(rate)),
    ['31,780', '100', '45.7', '10.0', '3.20', '0.00'],
  )
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

t.test('a refusal for memory names flags, where the command has them', async t => {
  const tooMany = String(2 ** 40)
  const { code, stderr } = await runHere([
    ...['generate', '--model', BOOKS, '--device', 'cpu', '--kv-cache-tokens', tooMany, 'x'],
  ])
  t.equal(code, 1)
  t.match(
    stderr,
    /^moepp: ERR_OUT_OF_MEMORY: .* fit: --kv-cache-tokens \d+\. --no-memory-check loads it anyway\n$/,
  )
  const program = new Command('moepp')
  const bench = new Command('bench').option('--dtype <type>').option('--no-memory-check')
  program.addCommand(bench.action(() => {})).parse(['bench'], { from: 'user' })
  const message = "would fit: dtype: 'int8' with kvCacheTokens: 64. memoryCheck: false loads"
  let shown = ''
  const terminal = { error: (text: string) => (shown = text) } as unknown as Terminal
  const error = new MoeppError('ERR_OUT_OF_MEMORY', message)
  reportError(error, { terminal, program, args: ['bench'], verbose: false })
  t.match(shown, / fit: --dtype int8 with kvCacheTokens: 64\. --no-memory-check loads$/)
})

t.test('the flags of a grammar: files are read, and only one is given', async t => {
  const directory = t.testdir({ 'schema.json': '{"not": {}}', 'bad.json': '{', 'g.ebnf': 'root' })
  const file = (name: string) => join(directory, name)
  const table: [flags: string[], message: RegExp][] = [
    [['--json-schema', file('none.json')], /--json-schema.*Cannot be read: ENOENT/],
    [['--json-schema', file('bad.json')], /--json-schema.*Expected JSON: /],
    [['--ebnf', file('none')], /--ebnf.*Cannot be read/],
    [['--regex', 'a', '--ebnf', file('g.ebnf')], /--regex.*cannot be used with.*--ebnf/],
    [['--regex', 'a', '--json-schema', file('schema.json')], /cannot be used with/],
    [['--json-schema', file('schema.json')], /grammar.jsonSchema.not: is not supported/],
    [['--ebnf', file('g.ebnf')], /grammar.ebnf: line 1, column 1: expected NAME/],
  ]
  for (const [flags, message] of table) {
    const { code, stderr, stdout } = await runHere(['generate', '--model', BOOKS, ...flags, 'The'])
    t.not(code, 0)
    t.match(stderr, message)
    t.equal(stdout, '')
  }
  const { stdout } = await runHere(['generate', '--model', BOOKS, '--regex', ' [a-f]{4}', 'The'])
  t.match(stdout, /^ [a-f]{4}\n$/)
})
