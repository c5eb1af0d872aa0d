/** Data files: their forms are recognised, and each wrong line is an error with its place. */
import { join } from 'node:path'
import t from 'tap'
import { MoeppError } from '../../lib/errors.js'
import { argmax, meanMetric } from '../../lib/evaluate/metrics.js'
import { readTasks, TASK_NAMES, taskFile } from '../../lib/evaluate/tasks.js'
import { root } from '../support/golden.js'

const DATA = join(root, 'test', 'golden', 'evaluation')

/** Right lines, to make wrong ones of. */
const LINES = {
  winogrande: { sentence: 'A _ b.', option1: 'x', option2: 'y', answer: '1' },
  arc: { question: 'Q?', choices: { text: ['a', 'b'], label: ['A', 'B'] }, answerKey: 'B' },
  hellaswag: { ctx_a: 'A.', ctx_b: 'b', activity_label: 'C', endings: ['d', 'e'], label: '1' },
  piqa: { goal: 'A', sol1: 'b', sol2: 'c', label: 0 },
  boolq: { question: 'is it', passage: 'It is.', answer: true },
  mmlu: { question: 'Q?', subject: 'anatomy', choices: ['a', 'b', 'c', 'd'], answer: 3 },
}

const line = (form: keyof typeof LINES, change: object = {}) =>
  `${JSON.stringify({ ...LINES[form], ...change })}\n`

t.test('the fields show the form', async t => {
  const names = ['winogrande', 'arc', 'hellaswag', 'piqa', 'boolq', 'lambada']
  for (const name of names)
    t.equal((await readTasks({ path: join(DATA, `${name}.jsonl`) }))[0]!.name, name)
  const subjects = await readTasks({ path: join(DATA, 'mmlu.jsonl') })
  t.same(
    subjects.map(({ name }) => name),
    ['mmlu_abstract_algebra', 'mmlu_anatomy'],
  )
  t.equal((await readTasks({ path: join(DATA, 'texts.jsonl') }))[0]!.name, 'text')
})

t.test('a name says the form', async t => {
  t.same(taskFile('arc_easy=a=b.jsonl'), { name: 'arc_easy', path: 'a=b.jsonl' })
  t.same(taskFile('./a=b.jsonl'), { path: './a=b.jsonl' })
  t.throws(() => taskFile('gsm8k=a.jsonl'), RangeError)
  const path = join(DATA, 'arc.jsonl')
  t.equal((await readTasks({ path, name: 'arc_challenge' }))[0]!.name, 'arc_challenge')
  const texts = join(DATA, 'lambada.jsonl')
  t.equal((await readTasks({ path: texts, name: 'text' }))[0]!.form, undefined)
  t.ok(TASK_NAMES.includes('lambada_openai'))
})

t.test('a plain text is one document', async t => {
  const folder = t.testdir({ 'book.TXT': 'One.\nTwo.\n' })
  const [task] = await readTasks({ path: join(folder, 'book.TXT') })
  t.same(task!.documents, ['One.\nTwo.\n'])
})

t.test('quotes and line breaks of CSV', async t => {
  const rows = '"A ""b"",\nc?",1,2,3,"4, or so",D\r\n\r\nQ?,,b,c,d,A'
  const folder = t.testdir({ 'anatomy_dev.csv': rows })
  const [task] = await readTasks({ path: join(folder, 'anatomy_dev.csv') })
  t.equal(task!.name, 'mmlu_anatomy')
  const [first, second] = task!.form ? task!.documents : []
  t.match(first!.question.requests[3], {
    context: 'A "b",\nc?\nA. 1\nB. 2\nC. 3\nD. 4, or so\nAnswer:',
    continuation: ' D',
  })
  t.equal(first!.question.gold, 3)
  t.match(second!.question.requests[0]!.context, 'Q?\nA. \nB. b')
  t.match(second!.record.where, /line 4$/)
})

t.test('a wrong line is an error that says where', async t => {
  const faults: [string, RegExp][] = [
    ['', /data\.jsonl: expected a line at least/],
    ['\n{"a":', /line 2: not valid JSON/],
    ['[1]', /line 1: expected an object, got \[1\]/],
    ['{"a":1,"a":2}', /line 1: the key "a" occurs twice/],
    ['{"x":1}', /line 1: expected the fields of winogrande, .*; got x/],
    [line('winogrande') + line('piqa'), /line 2: sentence: expected a text, got nothing/],
    [line('winogrande', { sentence: 'no blank' }), /sentence: expected a text with a blank/],
    [line('winogrande', { answer: '' }), /answer: expected "1" or "2", got ""/],
    [line('winogrande', { option2: 3 }), /option2: expected a text, got 3/],
    [line('arc', { answerKey: 'C' }), /answerKey: expected one of A, B, got "C"/],
    [
      line('arc', { choices: { text: ['a'], label: ['A', 'B'] } }),
      /choices: label: expected 1 lab/,
    ],
    [line('arc', { question: { stem: 'Q', choices: [3] } }), /question: choices: expected objects/],
    [
      line('arc', { question: { stem: 'Q', choices: [{ text: 'a' }] } }),
      /line 1: question: choices\[0\]: label: expected a text, got nothing/,
    ],
    [line('hellaswag', { label: '2' }), /label: expected an integer from 0 to 1, got "2"/],
    [line('hellaswag', { endings: [] }), /endings: expected a list of texts/],
    [line('piqa', { label: null }), /label: expected an integer from 0 to 1, got null/],
    [line('boolq', { answer: 'true' }), /answer: expected true or false, got "true"/],
    [line('boolq', { answer: [] }), /answer: expected true or false/],
    [line('mmlu', { choices: ['a', 'b'] }), /choices: expected four texts/],
    [line('mmlu', { answer: 4 }), /answer: expected an integer from 0 to 3, got 4/],
    [line('mmlu', { subject: undefined }), /subject: expected a text, got nothing/],
    ['{"text":1}', /line 1: text: expected a text, got 1/],
  ]
  for (const [content, message] of faults) {
    const path = join(t.testdir({ 'data.jsonl': content }), 'data.jsonl')
    await t.rejects(readTasks({ path }), { name: 'MoeppError', code: 'ERR_BAD_FILE', message })
  }
  for (const [content, message] of [
    ['Q?,a,b,c,d,A\nQ?,a,b,c,A\n', /line 2: expected a question, four choices.*, got 5 cells/],
    ['Q?,a,b,c,d,E\n', /line 1: answer: expected A, B, C or D, got "E"/],
    ['Q?,a,b,c,d,AB\n', /line 1: answer: expected A, B, C or D, got "AB"/],
    ['"Q?,a,b\n', /line 1: not a cell of CSV/],
    ['Q?,a "b",c,d,e,A\n', /line 1: not a cell of CSV/],
  ] as const) {
    const path = join(t.testdir({ 'x_test.csv': content }), 'x_test.csv')
    await t.rejects(readTasks({ path }), { code: 'ERR_BAD_FILE', message })
  }
})

t.test('labels in a file beside are as many as the lines', async t => {
  const { label, ...unlabelled } = LINES.piqa
  const folder = t.testdir({
    'dev.jsonl': `${JSON.stringify(unlabelled)}\n`.repeat(2),
    'dev-labels.lst': '0\n1\n1\n',
  })
  const path = join(folder, 'dev.jsonl')
  await t.rejects(readTasks({ path }), { message: /dev-labels\.lst: expected 2 labels, got 3/ })
})

t.test('a file that is not there', async t => {
  await t.rejects(readTasks({ path: '/no/such.jsonl' }), { code: 'ERR_NOT_FOUND' })
  await t.rejects(readTasks({ path: DATA }), MoeppError)
})

t.test('the largest value, and means', t => {
  t.equal(argmax([1, 3, 3]), 1)
  t.equal(argmax([-Infinity, Number.NaN, 5]), 1, 'as NumPy has it')
  t.equal(argmax([-Infinity, -Infinity]), 0)
  t.same(meanMetric('acc', [1]), { name: 'acc', value: 1, stderr: null })
  t.end()
})
