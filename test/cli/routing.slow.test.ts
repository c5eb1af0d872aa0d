/** `moepp routing` on the bundled model, beside plain loops over what the library returns. */
import { spawn } from 'node:child_process'
import { cpSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet'
import t, { type Test } from 'tap'
import { type ForwardResult, loadModel, type Model } from '../../lib/index.js'
import type { RoutingReport, Subject } from '../../lib/routing/types.js'
import { csvParseRows } from '../support/csv.js'
import { caseNames, goldenCase, root } from '../support/golden.js'
import { noPty, onTerminal } from './pty.js'
import { BOOKS, finish, startCli } from './run-cli.js'
import { runHere } from './run-here.js'

const HELDOUT = readFileSync(join(BOOKS, 'heldout.txt'), 'utf8')
const WINDOW = 64
const TEXT = HELDOUT.slice(0, 3000)
const FLAGS = ['--model', BOOKS, '--no-measure', '--window', String(WINDOW)]

const near = (t: Test, got: number, expected: number, about: string) =>
  t.ok(Math.abs(got - expected) <= 1e-9 * Math.max(1, Math.abs(expected)), `${about}: ${got}`)

/** Each window alone, with a begin token that is left out of all that is counted. */
async function plain(model: Model, text: string) {
  const ids = model.tokenizer.encode(text, { addSpecialTokens: false })
  const windows: { ids: number[]; result: ForwardResult }[] = []
  for (let i = 0; i < ids.length; i += WINDOW - 1) {
    const part = ids.slice(i, i + WINDOW - 1)
    const whole = [model.tokenizer.bosTokenId!, ...part]
    const capture = ['layers.*.router_logits', 'layers.*.constant_scores']
    const result = await model.forward(whole, { capture, routing: true })
    windows.push({ ids: part, result })
  }
  return { ids, windows }
}

type Windows = Awaited<ReturnType<typeof plain>>['windows']

/** One token's picks in one layer. */
function* picksOf(windows: Windows) {
  for (const [window, { ids, result }] of windows.entries()) {
    for (const [i, token] of ids.entries()) {
      const position = i + 1
      for (const { layer, topK, kinds, expertIndices, expertWeights } of result.routing!.layers) {
        const at = position * topK
        const experts = [...expertIndices.subarray(at, at + topK)]
        const weights = [...expertWeights.subarray(at, at + topK)]
        const ffn = experts.filter((e, k) => kinds[e] === 'ffn' && weights[k]! > 0).length
        const logits = result.captured[`layers.${layer}.router_logits`]!
        const scores = result.captured[`layers.${layer}.constant_scores`]!
        const row = logits.subarray(position * kinds.length, (position + 1) * kinds.length)
        const constants = kinds.filter(kind => kind === 'constant').length
        const first = kinds.indexOf('constant')
        const replaced = experts.map(expert => {
          if (kinds[expert] !== 'constant') return 0
          const place = position * 2 * constants + 2 * (expert - first)
          return 1 / (1 + Math.exp(scores[place]! - scores[place + 1]!))
        })
        const chosen = experts.map(expert => row[expert]!)
        yield {
          window,
          position,
          token,
          layer,
          kinds,
          experts,
          weights,
          ffn,
          row,
          chosen,
          replaced,
        }
      }
    }
  }
}

t.test('the numbers of a report are those of a plain loop', async t => {
  const folder = t.testdir({ 'a.txt': TEXT })
  const at = (name: string) => join(folder, name)
  const args = ['routing', at('a.txt'), ...FLAGS, '--json', '--out', at('r.json'), at('r.html')]
  const files = ['--tables', at('tables'), '--tokens', at('tokens.parquet')]
  const { code, stdout, stderr } = await runHere([...args, ...files])
  t.equal(code, 0, stderr)
  const report: RoutingReport = JSON.parse(stdout)
  t.same(JSON.parse(readFileSync(at('r.json'), 'utf8')), report)
  t.match(readFileSync(at('r.html'), 'utf8'), /^<!doctype html>/i)
  const subject = report.subjects[0]!
  t.match(subject, { model: BOOKS, file: at('a.txt'), windowTokens: WINDOW, device: /^cpu|^cuda/ })

  await using model = await loadModel(BOOKS)
  const { ids, windows } = await plain(model, TEXT)
  t.ok(windows.length > 10)
  t.equal(subject.tokens, ids.length)
  const picks = [...picksOf(windows)]
  const layers = subject.layers.length
  near(t, subject.ffnExperts.mean, mean(picks.map(({ ffn }) => ffn)), 'FFN experts')
  for (const statistics of subject.layers) {
    const own = picks.filter(({ layer }) => layer === statistics.layer)
    const counts = statistics.kinds.map(
      (_, e) => own.filter(({ experts }) => experts.includes(e)).length,
    )
    t.same(statistics.picks, counts)
    const numbers = [0, 1, 2].map(n => own.filter(({ ffn }) => ffn === n).length)
    t.same(statistics.ffnExperts, numbers)
    const scores = own.flatMap(({ row }) => [...row])
    near(t, statistics.router!.scores.mean, mean(scores), `logits of layer ${statistics.layer}`)
    t.equal(statistics.router!.scores.most, Math.max(...scores))
  }
  for (const { token, ffnExperts } of subject.vocabulary.slice(0, 20)) {
    const own = picks.filter(pick => pick.token === token)
    t.equal(ffnExperts.count, own.length / layers)
    near(t, ffnExperts.mean, mean(own.map(({ ffn }) => ffn)), `token ${token}`)
  }

  const table = csvParseRows(readFileSync(at('tables/layers.csv'), 'utf8'))
  t.equal(table.length, 1 + layers)
  t.same(readdirSync(at('tables')).sort(), [
    ...['agreement.csv', 'cost.csv', 'experts.csv', 'layers.csv', 'places.csv', 'vocabulary.csv'],
  ])
  const rows = await parquetReadObjects({ file: await asyncBufferFromFile(at('tokens.parquet')) })
  t.equal(rows.length, picks.length)
  for (const [i, row] of rows.entries()) {
    const { window, position, token, layer, experts, weights, ffn, chosen, replaced } = picks[i]!
    const exact = [row.window, row.position, row.token, row.layer, row.ffn_experts]
    const same = [...exact, row.expert_0, row.expert_1, row.weight_0, row.weight_1]
    const logits = [row.logit_0, row.logit_1]
    const wanted = [window, position, token, layer, ffn, ...experts, ...weights, ...chosen]
    if (!equal([...same, ...logits], wanted)) t.same([...same, ...logits], wanted, `row ${i}`)
    for (const k of [0, 1])
      if (!(Math.abs(row[`replaced_${k}`] - replaced[k]!) < 1e-6))
        t.equal(row[`replaced_${k}`], replaced[k], `row ${i}`)
  }
  t.equal(
    rows
      .filter((_, i) => i % layers === 0)
      .map(({ text }) => text)
      .join(''),
    TEXT,
  )
})

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

function equal(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i])
}

const subjects = (stdout: string): Subject[] => JSON.parse(stdout).subjects

t.test('standard input, and a limit of tokens', async t => {
  const folder = t.testdir({ 'a.txt': TEXT })
  const file = join(folder, 'a.txt')
  const piped = await runHere(['routing', '-', ...FLAGS, '--json'], { input: TEXT })
  const read = await runHere(['routing', file, ...FLAGS, '--json'])
  t.equal(piped.code, 0, piped.stderr)
  t.same(
    subjects(piped.stdout),
    subjects(read.stdout).map(each => ({ ...each, file: '-' })),
  )
  const tokens = join(folder, 'tokens.csv')
  const limited = await runHere([
    'routing',
    file,
    ...FLAGS,
    '--json',
    '--limit',
    '100',
    '--tokens',
    tokens,
  ])
  t.equal(subjects(limited.stdout)[0]!.tokens, 100)
  const lines = csvParseRows(readFileSync(tokens, 'utf8'))
  t.equal(lines.length, 1 + 100 * subjects(limited.stdout)[0]!.layers.length)
})

t.test('two models are beside each other, and the times are measured', async t => {
  const folder = t.testdir({ 'a.txt': TEXT })
  const copy = join(folder, 'copy')
  cpSync(BOOKS, copy, { recursive: true })
  const json = join(folder, 'r.json')
  const args = ['routing', join(folder, 'a.txt'), '--model', BOOKS, '--model', copy]
  const { code, stdout, stderr } = await runHere([...args, '--out', json])
  t.equal(code, 0, stderr)
  t.match(stdout, /books-7m: a\.txt +copy: a\.txt\n/)
  t.match(stdout, /FFN experts per token +(\d\.\d+ ± \d\.\d+ of 2) +\1\n/)
  t.match(stdout, /decode against the twin +.* measured .* measured\n/)
  t.match(stderr, `moepp: written: ${json}\n`)
  const [first, second] = subjects(readFileSync(json, 'utf8'))
  t.same({ ...second, model: BOOKS, cost: null }, { ...first, cost: null })
  for (const { cost } of [first!, second!])
    for (const { measured } of [cost!.model, cost!.twin])
      t.ok(measured!.prefill > 0 && measured!.decode > 0)
})

t.test('files without a text', async t => {
  const garbage = Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 7919) % 256))
  const folder = t.testdir({ 'mark.txt': '\uFEFF' })
  writeFileSync(join(folder, 'garbage.bin'), garbage)
  for (const [name, message] of [
    ['mark.txt', /ERR_BAD_PROMPT: .*mark\.txt: the text has no token/],
    ['garbage.bin', /ERR_BAD_FILE: .*garbage\.bin: not UTF-8 text, between bytes 0 and 5000/],
  ] as const) {
    const out = join(folder, 'r.json')
    const { code, stdout, stderr } = await runHere([
      'routing',
      join(folder, name),
      ...FLAGS,
      '--out',
      out,
    ])
    t.equal(code, 1)
    t.match(stderr, message)
    t.equal(stdout, '')
    t.notOk(existsSync(out))
  }
})

t.test('a model without a tokenizer', async t => {
  const file = join(t.testdir({ 'a.txt': 'text' }), 'a.txt')
  const model = goldenCase(caseNames()[0]!)
  const { code, stderr } = await runHere(['routing', file, '--model', model])
  t.equal(code, 1)
  t.equal(stderr, `moepp: ERR_BAD_TOKENIZER: ${model}: the checkpoint has no tokenizer\n`)
})

/** Files of a run under way: hidden names beside the target. */
const staged = (folder: string) => readdirSync(folder).filter(name => name.startsWith('.'))

t.test('Ctrl-C in its middle leaves the older files', async t => {
  const folder = t.testdir({
    'a.txt': HELDOUT.repeat(20),
    'tokens.csv': 'older',
    'r.json': 'older',
  })
  const at = (name: string) => join(folder, name)
  const files = ['--tokens', at('tokens.csv'), '--out', at('r.json')]
  const child = startCli(['routing', at('a.txt'), ...FLAGS, ...files])
  child.stdin.end()
  const finished = finish(child)
  while (!staged(folder).some(name => statSync(at(name)).size > 0)) {
    if (child.exitCode !== null) throw new Error((await finished).stderr)
    await sleep(5)
  }
  child.kill('SIGINT')
  const { code, stdout, stderr } = await finished
  t.equal(code, 130)
  t.equal(stdout, '')
  t.equal(stderr, 'moepp: interrupted\n')
  for (const name of ['tokens.csv', 'r.json']) t.equal(readFileSync(at(name), 'utf8'), 'older')
  t.same(readdirSync(folder).sort(), ['a.txt', 'r.json', 'tokens.csv'])
})

const noShell = !existsSync('/bin/sh') && 'there is no /bin/sh'

t.test('a pipe that has a name', { skip: noShell }, async t => {
  const main = join(root, 'dist', 'cli', 'main.js')
  const command = ['-c', 'printf "The old man" | "$@"', 'sh', process.execPath, main, 'routing']
  const child = spawn('/bin/sh', [...command, '/dev/stdin', ...FLAGS, '--json'])
  const { code, stdout, stderr } = await finish(child)
  t.equal(code, 0, stderr)
  t.match(subjects(stdout)[0], { file: '/dev/stdin', tokens: 3 })
})

t.test(
  'a disk that takes no more is an error, and the older file stays',
  { skip: noShell },
  async t => {
    for (const name of ['tokens.csv', 'tokens.parquet']) {
      const folder = t.testdir({ 'a.txt': HELDOUT, [name]: 'older' })
      const args = ['routing', join(folder, 'a.txt'), ...FLAGS, '--tokens', join(folder, name)]
      const main = join(root, 'dist', 'cli', 'main.js')
      // Files end after 512 blocks of 512 or 1024 bytes.
      const limited = ['-c', 'ulimit -f 512; exec "$@"', 'sh', process.execPath, main, ...args]
      const { code, stderr } = await finish(spawn('/bin/sh', limited))
      t.equal(code, 1)
      t.match(stderr, new RegExp(`ERR_CANNOT_WRITE: .*${name}: cannot be written: EFBIG`))
      t.equal(readFileSync(join(folder, name), 'utf8'), 'older')
      t.same(readdirSync(folder).sort(), ['a.txt', name])
    }
  },
)

t.test('a terminal shows a bar, and headings in bold', { skip: noPty }, async t => {
  const folder = t.testdir({ 'a.txt': HELDOUT })
  const shown = await onTerminal(['routing', join(folder, 'a.txt'), ...FLAGS])
  t.match(shown, /Routing .*a\.txt .* % \| [\d.]+ kB of 276 kB \| .* left [\d,.]+ tokens\/s/)
  t.match(shown, '\u001b[1ma.txt through books-7m on ')
})
