/**
 * The command lines of the benches: what is wrong is said in one line, before anything is made or
 * measured.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/golden.js'

// Plain JavaScript without types; a path that the compiler does not follow.
const load = (name: string) => import(join(root, 'bench', name))
const { count, fraction, listOf, oneOf, positive, present, readArguments, splitArguments, text } =
  await load('arguments.mjs')

function run(script: string, ...args: string[]) {
  const env = { ...process.env, NODE_OPTIONS: '' }
  return spawnSync(process.execPath, [join(root, 'bench', script), ...args], {
    encoding: 'utf8',
    env,
  })
}

t.test('values', async t => {
  const kinds = {
    shape: oneOf(['7b', '1b']),
    layers: count,
    tau: fraction,
    seconds: positive,
    tokens: listOf(count),
    out: text,
    vanilla: present,
  }
  const read = (...args: string[]) => ({ ...readArguments(args, kinds, 'shape') })
  t.same(read(), {})
  t.same(read('1b', '--layers=2'), { shape: '1b', layers: 2 })
  t.same(read('--layers', '2', '1b'), { shape: '1b', layers: 2 })
  t.same(read('--shape=7b', '--vanilla'), { shape: '7b', vanilla: true })
  t.same(read('--tau=.5', '--seconds=1.5'), { tau: 0.5, seconds: 1.5 })
  t.same(read('--tau', '1', '--tokens=1,512', '--out=12'), { tau: 1, tokens: [1, 512], out: '12' })
})

t.test('options of its own and of another program', async t => {
  const split = (...args: string[]) => splitArguments(args, { layers: count, vanilla: present })
  t.same(split('--layers=2', '--tests=pp4', '--vanilla'), [
    ['--layers=2', '--vanilla'],
    ['--tests=pp4'],
  ])
  t.same(split('-o', 'json', '--layers', '2', '--threads', '1'), [
    ['--layers', '2'],
    ['-o', 'json', '--threads', '1'],
  ])
  t.same(split('--tests', 'pp4', '--layers'), [['--layers'], ['--tests', 'pp4']])
})

const INTEGER = (name: string, got: string) => `--${name}: expected an integer >= 1, got ${got}\n`
const TAU = (got: string) => `--tau: expected a number > 0 and <= 1, got ${got}\n`
const SHAPES =
  '0.6b, 1b, 2b, 7b, qwen3-30b-a3b, mixtral-8x7b, glm-4.7-flash, longcat-flash-lite, ' +
  'glm-4.7-flash-full-heads, tiny-glm, strong-glm, tiny-longcat, tiny, large-experts, ' +
  'tiny-qwen3, tiny-mixtral'
const SHAPE = (got: string) => `--shape: expected one of ${SHAPES}, got ${got}\n`
const OPTIONS = '--shape, --layers, --tau, --vanilla, --zero, --folder\n'

type Wrong = readonly [script: string, args: readonly string[], message: string]

const WRONG: readonly Wrong[] = [
  ...['abc', '0', '1.5', '-1', '0x1', '1e0', '', '99999999999999999999'].map(
    (layers): Wrong => ['synthetic.mjs', [`--layers=${layers}`], INTEGER('layers', `'${layers}'`)],
  ),
  ...['abc', '-1', '0', '2', 'NaN', ''].map(
    (tau): Wrong => ['synthetic.mjs', [`--tau=${tau}`], TAU(`'${tau}'`)],
  ),
  ['synthetic.mjs', ['--layers', '0'], INTEGER('layers', "'0'")],
  ['synthetic.mjs', ['--folder='], "--folder: expected a text, got ''\n"],
  ['synthetic.mjs', ['foo'], SHAPE("'foo'")],
  ['synthetic.mjs', ['7b', '1b'], SHAPE("'7b 1b'")],
  ['synthetic.mjs', ['tiny-qwen3', '--zero=0'], INTEGER('zero', "'0'")],
  ...['synthetic.mjs', 'end-to-end.mjs', 'compare/llama.mjs'].map(
    (script): Wrong => [
      script,
      ['--shape=tiny-mixtral', '--zero=8'],
      '--zero: expected none with the shape tiny-mixtral, got 8\n',
    ],
  ),
  ['compare/moe-layer.mjs', ['tiny-mixtral'], '--shape: expected one of 0.6b, 1b, 2b, 7b, tiny, '],
  ['synthetic.mjs', ['--layer=2'], `Unknown option '--layer'; the options are ${OPTIONS}`],
  [
    'synthetic.mjs',
    ['--layers'],
    `Option '--layers <value>' argument missing; the options are ${OPTIONS}`,
  ],
  [
    'synthetic.mjs',
    ['--tau', '--vanilla'],
    `Option '--tau' argument is ambiguous; the options are ${OPTIONS}`,
  ],
  ['end-to-end.mjs', ['--tests=pp4', '--shape=foo'], SHAPE("'foo'")],
  ['end-to-end.mjs', ['--layers', 'abc', '--tests=pp4'], INTEGER('layers', "'abc'")],
  ['end-to-end.mjs', ['--model=x', '--layers=2'], "moepp: unknown option '--layers=2'"],
  ['quality.mjs', ['--windows=0'], INTEGER('windows', "'0'")],
  [
    'quality.mjs',
    ['--dtypes=int8,int2'],
    "--dtypes: expected one of bfloat16, rounded, int8, int4, int4-all, or several by commas, got 'int8,int2'\n",
  ],
  ['quality.mjs', ['int8'], "Unexpected argument 'int8'"],
  ['expert-forward.mjs', ['--seconds=0'], "--seconds: expected a number > 0, got '0'\n"],
  [
    'expert-forward.mjs',
    ['--curve=1,,2'],
    "--curve: expected an integer >= 1, or several by commas, got '1,,2'\n",
  ],
  ['parallel/simulate.mjs', ['--zero=8'], '--zero: expected with --shape\n'],
  ['parallel/simulate.mjs', ['--rounds=2'], '--rounds: expected with --validate\n'],
  ['parallel/simulate.mjs', ['--validate', '--shape=7b'], '--shape: expected without --validate\n'],
  ['parallel/simulate.mjs', ['--costs=x', '--turns=3'], '--turns: expected without --costs\n'],
  ['parallel/simulate.mjs', ['--quantile=2'], '--quantile: expected a number > 0 and <= 1, got '],
  [
    'compare/llama.mjs',
    ['--dtype=int2'],
    "--dtype: expected one of bfloat16, int8, int4, got 'int2'\n",
  ],
  ['compare/llama.mjs', ['--prefill', '0'], INTEGER('prefill', "'0'")],
  ['compare/moe-layer.mjs', ['--tokens=1e3'], INTEGER('tokens', "'1e3'")],
  [
    'compare/moe-layer.mjs',
    ['--layers=2'],
    "Unknown option '--layers'; the options are --shape, --tau, ",
  ],
  [
    'compare/vanilla-gguf.mjs',
    ['--type=Q5_0'],
    '--type: expected one of F32, BF16, Q8_0, Q4_0, got ',
  ],
]

t.test('what is wrong ends with one line and status 2', async t => {
  for (const [script, args, message] of WRONG) {
    const folder = t.testdir()
    const where =
      /^(synthetic|compare)/.test(script) && !args.includes('--folder=')
        ? [`--folder=${folder}`]
        : []
    const { status, stdout, stderr } = run(script, ...where, ...args)
    t.equal(status, 2, [script, ...args].join(' '))
    t.equal(stdout, '')
    t.ok(stderr.startsWith(message), stderr)
    t.match(stderr, /^[^\n]*\n$/)
    t.same(readdirSync(folder), [])
  }
})

t.test('a checkpoint is not made of wrong sizes either', async t => {
  const { synthetic } = await load('synthetic.mjs')
  const folder = t.testdir()
  const make = (name: string, options: object) => () => synthetic(name, { folder, ...options })
  t.throws(make('foo', {}), {
    name: 'RangeError',
    message: /^shape: expected one of .*, got 'foo'$/,
  })
  for (const layers of ['abc', '2', 0, 1.5, Number.NaN]) {
    t.throws(make('tiny', { layers }), {
      name: 'RangeError',
      message: /^layers: expected an integer >= 1, got/,
    })
  }
  for (const tau of ['0.5', 0, -1, 2, Number.NaN]) {
    t.throws(make('tiny', { tau }), {
      name: 'RangeError',
      message: /^tau: expected a number > 0 and <= 1, got/,
    })
  }
  t.throws(make('tiny', { seed: 0 }), {
    name: 'RangeError',
    message: 'seed: expected an integer >= 1, got 0',
  })
  t.same(readdirSync(folder), [])
})

t.test('end-to-end takes its own options and hands the rest on', async t => {
  const own = ['--shape=tiny', '--layers', '1', `--folder=${t.testdir()}`]
  const { stdout, stderr } = run(
    'end-to-end.mjs',
    '--tests',
    'pp4',
    ...own,
    '--repetitions=1',
    '-o',
    'json',
  )
  t.match(
    JSON.parse(stdout),
    { layers: 1, hiddenSize: 192, repetitions: 1, results: [{ name: 'pp4' }] },
    stderr,
  )
  t.match(run('end-to-end.mjs', '--help').stdout, /^Usage: moepp bench /)
})

const { programs } = await import(join(root, 'scripts', 'build-native.mjs' as string))

t.test(
  'moepp-native bench',
  { skip: !existsSync(programs.native) && 'moepp-native is not built' },
  async t => {
    const bench = (...args: string[]) =>
      spawnSync(programs.native, ['bench', ...args], { encoding: 'utf8' })
    const help = bench('--help')
    t.equal(help.status, 0)
    t.equal(help.stderr, '')
    for (const name of ['device', 'isa', 'threads', 'seconds', 'layers', 'check', 'tiny'])
      t.match(help.stdout, new RegExp(`^  --${name}\\b`, 'm'))
    for (const what of [[], ['expert-forward']]) {
      const { status, stderr } = bench(...what, '--isa=mmx')
      t.equal(status, 1)
      t.equal(stderr, 'moepp-native: isa is mmx, expected one that this processor can run\n')
    }
    const wrong = bench('--hlp')
    t.equal(wrong.status, 2)
    t.equal(wrong.stderr, 'moepp-native bench: there is no option --hlp (--help lists them)\n')
  },
)
