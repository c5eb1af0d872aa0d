/** Results of `moepp eval` that are kept, and runs that are interrupted. */
import {
  appendFileSync,
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { root } from '../support/golden.js'
import { noPty, onTerminal } from './pty.js'
import { BOOKS, finish, startCli } from './run-cli.js'
import { runHere } from './run-here.js'

const data = (name: string) => join(root, 'test', 'golden', 'evaluation', name)
const FLAGS = ['eval', '--model', BOOKS, '--context-length', '256']
const results = (stdout: string) => JSON.parse(stdout).results

t.test('a run goes on from its results, and from no others', async t => {
  const folder = t.testdir()
  const out = join(folder, 'out.jsonl')
  const flags = [...FLAGS, '--json', '--tasks', data('arc.jsonl'), '--out', out]
  const part = await runHere([...flags, '--limit', '3'])
  t.equal(results(part.stdout)[0].documents, 3)
  t.equal(readFileSync(out, 'utf8').split('\n').length, 4)
  const rest = await runHere(flags)
  t.equal(rest.code, 0, rest.stderr)
  const lines = readFileSync(out, 'utf8')
  t.equal(lines.split('\n').length, 9)
  const whole = await runHere([...FLAGS, '--json', '--tasks', data('arc.jsonl')])
  t.same(results(rest.stdout), results(whole.stdout))
  truncateSync(out, lines.length - 20)
  t.same(results((await runHere(flags)).stdout), results(whole.stdout), 'a torn line')
  t.equal(readFileSync(out, 'utf8'), lines)
  t.same(results((await runHere(flags)).stdout), results(whole.stdout), 'nothing is left to do')

  const refuse = async (args: readonly string[], message: RegExp) => {
    const before = readFileSync(out, 'utf8')
    const { code, stdout, stderr } = await runHere(args)
    t.equal(code, 1)
    t.equal(stdout, '')
    t.match(stderr, message)
    t.equal(readFileSync(out, 'utf8'), before)
  }
  const other = /ERR_CANNOT_WRITE: .*line 1 is the result of another run: arc:0 has another/
  await refuse([...flags, '--dtype', 'int8'], other)
  await refuse([...flags, '--shots', '1', '--shots-from', data('arc-train.jsonl')], other)
  await refuse([...flags, '--limit', '3'], /line 4 is the .*: the evaluation has only 3 items/)
  writeFileSync(out, lines.replaceAll(/"greedy":\[.*?\]/g, '"greedy":[true]'))
  await refuse(flags, other)
  writeFileSync(out, 'a letter\n')
  await refuse(flags, /line 1 is not a result of eval; the file is not changed/)
  const input = join(folder, 'arc.jsonl')
  appendFileSync(input, readFileSync(data('arc.jsonl')))
  const same = await runHere([...FLAGS, '--tasks', input, '--out', input])
  t.equal(same.code, 2)
  t.match(same.stderr, /--out: .* is the file that the items are read from/)
})

t.test('other weights of the same name are another run', async t => {
  const folder = t.testdir()
  const model = join(folder, 'model')
  cpSync(BOOKS, model, { recursive: true })
  const out = join(folder, 'out.jsonl')
  const flags = ['eval', '--model', model, '--tasks', data('arc.jsonl'), '--out', out]
  t.equal((await runHere([...flags, '--limit', '1'])).code, 0)
  t.equal((await runHere([...flags, '--limit', '2'])).code, 0)
  const weights = readdirSync(model).find(name => name.endsWith('.bin'))!
  utimesSync(join(model, weights), 1, 1)
  const { code, stderr } = await runHere(flags)
  t.equal(code, 1)
  t.match(stderr, /line 1 is the result of another run/)
})

/** A text of so many windows: more than are done before a signal comes. */
const MANY = 150
const book = Array.from({ length: MANY * 12 }, (_, i) => `Chapter ${i} of the old book.`).join(' ')

t.test('killed or interrupted, it goes on where it stopped', async t => {
  const folder = t.testdir({ 'book.txt': book })
  const [whole, ...outs] = ['whole', 'stopped', 'killed'].map(name => join(folder, name))
  const file = join(folder, 'book.txt')
  const flags = ['eval', '--model', BOOKS, '--context-length', '128', '--json', '--tasks', file]
  const expected = await runHere([...flags, '--out', whole!])
  const lines = readFileSync(whole!, 'utf8')
  for (const [i, signal] of (['SIGINT', 'SIGKILL'] as const).entries()) {
    const out = outs[i]!
    const child = startCli([...flags, '--out', out])
    child.stdin.end()
    const finished = finish(child)
    while (!existsSync(out) || readFileSync(out, 'utf8').split('\n').length < 5) {
      if (child.exitCode !== null) throw new Error((await finished).stderr)
      await sleep(2)
    }
    child.kill(signal)
    const { code, stdout, stderr } = await finished
    t.equal(stdout, '')
    t.equal(code, signal === 'SIGINT' ? 130 : undefined)
    if (signal === 'SIGINT')
      t.match(stderr, /^moepp: \d+ items done; the same command continues.*\nmoepp: interrupted\n$/)
    const kept = readFileSync(out, 'utf8')
    t.ok(kept.length < lines.length, 'it was stopped in its middle')
    const rest = await runHere([...flags, '--out', out])
    t.same(results(rest.stdout), results(expected.stdout))
    t.equal(readFileSync(out, 'utf8'), lines)
  }
})

t.test('a terminal shows a bar with the time left', { skip: noPty }, async t => {
  const folder = t.testdir({ 'book.txt': `${book} `.repeat(5) })
  const flags = ['--model', BOOKS, '--context-length', '128']
  const shown = await onTerminal(['eval', ...flags, '--tasks', join(folder, 'book.txt')])
  t.match(shown, /Evaluating .* % \| [\d,]+ of [\d,]+ \| .* left text:0:\d+/)
})
