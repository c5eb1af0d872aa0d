/**
 * Compares with lm-evaluation-harness's own code. golden/evaluation/harness.json holds what its
 * tasks, at the commit of lib/evaluate/harness.ts, gave for the same files and stand-in.ts's model.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type Answer, Evaluation, type EvaluationOptions } from '../../lib/evaluate/evaluation.js'
import { readTasks } from '../../lib/evaluate/tasks.js'
import { root } from '../support/golden.js'
import { standIn } from './stand-in.js'

const DATA = join(root, 'test', 'golden', 'evaluation')

interface Expected {
  readonly task: string
  readonly shots?: number
  readonly contextLength: number
  readonly stride?: number
  readonly documents: number
  /** Value and standard error. */
  readonly metrics: Readonly<Record<string, readonly [number, number | null]>>
  /** Of each pair of texts, in order. */
  readonly logprobs: readonly number[]
}

const EXPECTED: readonly Expected[] = JSON.parse(readFileSync(join(DATA, 'harness.json'), 'utf8'))

/** Files of examples, by form; LAMBADA's are its own documents. */
const EXAMPLES: Readonly<Record<string, string>> = { mmlu: 'mmlu-dev', lambada: '' }

async function evaluate(file: string, contextLength: number, options: Partial<EvaluationOptions>) {
  const tasks = await readTasks({ path: join(DATA, file) })
  const form = tasks[0]!.form?.name ?? ''
  const from = EXAMPLES[form] ?? `${form}-train`
  const examples =
    from && options.shots ? await readTasks({ path: join(DATA, `${from}.jsonl`) }) : []
  const evaluation = await Evaluation.of(standIn(contextLength), tasks, {
    shots: 0,
    examples,
    seed: 1234,
    addSpecialTokens: true,
    setup: '',
    signal: new AbortController().signal,
    ...options,
  })
  const answers: { readonly id: string; readonly answer: Answer }[] = []
  for await (const item of evaluation.items()) {
    const answer = await evaluation.answer(item)
    evaluation.add(item, answer)
    answers.push({ id: item.id, answer })
  }
  t.equal(answers.length, evaluation.total)
  return { answers, reports: await evaluation.report() }
}

const close = (a: number, b: number) => Math.abs(a - b) <= 1e-12 * Math.max(1, Math.abs(b))

for (const expected of EXPECTED) {
  const { task, shots = 0, contextLength, stride } = expected
  const form = task.split('_')[0]!
  const file = form === 'text' ? 'texts.jsonl' : `${form}.jsonl`
  const how = `${shots} shots, context ${contextLength}${stride ? `, stride ${stride}` : ''}`
  t.test(`${task}: ${how}`, async t => {
    const options = { shots, ...(stride && { stride }) }
    const { answers, reports } = await evaluate(file, contextLength, options)
    const report = reports.find(each => each.task === task)!
    t.equal(report.documents, expected.documents)
    const { token_perplexity, ...metrics } = Object.fromEntries(
      report.metrics.map(({ name, value, stderr }) => [name, [value, stderr] as const]),
    )
    t.same(Object.keys(metrics), Object.keys(expected.metrics))
    for (const [name, [value, stderr]] of Object.entries(expected.metrics)) {
      const [ownValue, ownStderr] = metrics[name]!
      t.ok(close(ownValue, value), `${name}: ${ownValue}, expected ${value}`)
      t.equal(ownStderr === null, stderr === null)
      t.ok(close(ownStderr ?? 0, stderr ?? 0), `${name}: ± ${ownStderr}, expected ${stderr}`)
    }
    if (form === 'text') return
    const own = answers.filter(({ id }) => id.startsWith(`${task}:`))
    const logprobs = own.flatMap(({ answer }) => answer.map(({ logprob }) => logprob))
    if (task !== 'mmlu') t.same(logprobs, expected.logprobs, 'the same prompts and answers')
  })
}

t.test('the original releases give what the forms of the hub give', async t => {
  for (const [original, hub] of [
    ['arc-original.jsonl', 'arc.jsonl'],
    ['piqa-original.jsonl', 'piqa.jsonl'],
  ] as const) {
    const [one, other] = [await evaluate(original, 1000, {}), await evaluate(hub, 1000, {})]
    t.same(one.answers, other.answers)
    t.same(one.reports[0]!.metrics, other.reports[0]!.metrics)
  }
  const csv = await evaluate('anatomy_test.csv', 1000, {})
  const hub = await evaluate('mmlu.jsonl', 1000, {})
  const subject = 'mmlu_anatomy'
  t.same(csv.reports[0], {
    ...hub.reports.find(({ task }) => task === subject),
    file: 'anatomy_test.csv',
  })
  t.same(
    csv.answers,
    hub.answers.filter(({ id }) => id.startsWith(subject)),
  )
})
