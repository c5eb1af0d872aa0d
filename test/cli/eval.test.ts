/** `moepp eval` on the bundled model. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { loadModel } from '../../lib/load/load.js'
import { root } from '../support/golden.js'
import { BOOKS } from './run-cli.js'
import { runHere } from './run-here.js'

const data = (name: string) => join(root, 'test', 'golden', 'evaluation', name)
const FLAGS = ['eval', '--model', BOOKS, '--context-length', '256']

t.test("scores are those of the model's own calls", async t => {
  const folder = t.testdir({ 'a.txt': 'The old man went down to the river.\n' })
  const files = [data('winogrande.jsonl'), data('lambada.jsonl'), join(folder, 'a.txt')]
  const { code, stdout, stderr } = await runHere([...FLAGS, '--json', '--tasks', ...files])
  t.equal(code, 0, stderr)
  t.equal(stderr, '')
  const { harness, options, results } = JSON.parse(stdout)
  t.match(harness, { name: 'lm-evaluation-harness', commit: /^[0-9a-f]{40}$/ })
  t.match(options, { shots: 0, seed: 1234, limit: null, stride: null, contextLength: 256 })
  t.match(results, [
    { task: 'winogrande', documents: 8, metrics: { acc: {} } },
    { task: 'lambada', documents: 8, metrics: { acc: {}, perplexity: {} } },
    { task: 'text', documents: 1, metrics: { word_perplexity: { stderr: null } } },
  ])
  await using model = await loadModel(BOOKS)
  const { tokenizer } = model
  const text = tokenizer.encode(readFileSync(files[2]!, 'utf8'))
  const { logprob } = await model.score([tokenizer.bosTokenId!], text)
  const value = Math.exp(-logprob / 36)
  const near = (a: number, b: number) => Math.abs(a / b - 1) < 1e-12
  t.ok(near(results[2].metrics.byte_perplexity.value, value), '36 bytes')
  let right = 0
  for (const line of readFileSync(files[0]!, 'utf8').trim().split('\n')) {
    const { sentence, option1, option2, answer } = JSON.parse(line)
    const [before, after] = sentence.split('_')
    const scores = [option1, option2].map(async option => {
      const context = tokenizer.encode(before + option)
      const whole = tokenizer.encode(`${before}${option} ${after.trim()}`)
      return (await model.score(context, whole.slice(context.length))).logprob
    })
    const [first, second] = await Promise.all(scores)
    if ((first! >= second! ? '1' : '2') === answer) right++
  }
  t.equal(results[0].metrics.acc.value, right / 8)
})

t.test('a table for people, and few-shot examples', async t => {
  const shots = ['--shots', '2', '--shots-from', data('mmlu-dev.jsonl')]
  const flags = [...FLAGS, '--limit', '2', ...shots, '--tasks', data('mmlu.jsonl')]
  const { code, stdout, stderr } = await runHere(flags)
  t.equal(code, 0, stderr)
  t.match(stdout, /formulas of lm-evaluation-harness 0\.4\.13\.dev0, commit 4e7e0d47f/)
  t.match(stdout, /2 shots/)
  t.match(stdout, / {2}mmlu_anatomy +mmlu\.jsonl +2 {2}acc +\d\.\d{4} +\d\.\d{4}/)
  t.match(stdout, / {2}mmlu +4 {2}acc +\d\.\d{4} +\d\.\d{4}\n$/)
  const { stdout: other } = await runHere([...flags.with(flags.indexOf('2', 8), '1')])
  t.not(other, stdout)
})

t.test('prompts that are cut are told', async t => {
  const flags = FLAGS.with(-1, '16')
  const { code, stderr } = await runHere([...flags, '--tasks', data('boolq.jsonl')])
  t.equal(code, 0)
  t.match(stderr, /warning: boolq: 8 prompts without the first tokens/)
})

t.test('wrong command lines', async t => {
  const arc = data('arc.jsonl')
  const train = data('arc-train.jsonl')
  for (const [args, code, message] of [
    [[], 2, /no data set is given: use --tasks FILE/],
    [['--tasks', 'gsm8k=x'], 2, /--tasks: expected one of winogrande, .*, got "gsm8k"/],
    [['--tasks', arc, '--shots', '-1'], 2, /--shots: expected an integer >= 0, got -1/],
    [['--tasks', arc, '--seed', '0.5'], 2, /--seed: expected an integer/],
    [['--tasks', arc, '--limit', '0'], 2, /--limit: expected an integer >= 1, got 0/],
    [['--tasks', arc, '--shots', '1'], 2, /--shots-from: expected a file with examples of arc/],
    [['--tasks', arc, '--shots-from', train], 2, /--shots-from: expected together with --shots/],
    [['--tasks', arc, '--stride', '4'], 2, /--stride: expected with a whole text, got 4/],
    [['--tasks', data('texts.jsonl'), '--shots', '2'], 2, /--shots: expected 0 for whole texts/],
    [['--tasks', data('texts.jsonl'), '--stride', '999'], 2, /--stride: .*from 1 to 256, got 999/],
    [
      ['--tasks', arc, '--shots', '23', '--shots-from', train],
      1,
      /ERR_BAD_FILE: arc: expected 23 documents for examples, got 22/,
    ],
    [['--tasks', '/no/such'], 1, /ERR_NOT_FOUND: \/no\/such/],
  ] as const) {
    const { code: got, stdout, stderr } = await runHere([...FLAGS, ...args])
    t.equal(got, code, args.join(' '))
    t.match(stderr, message)
    t.equal(stdout, '')
  }
})
