/** `moepp routing`: its command line, its input and its summary. No model is run. */
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import t from 'tap'
import { summary } from '../../lib/cli/routing-report.js'
import { showTokens } from '../../lib/cli/routing-run.js'
import { TextInput } from '../../lib/cli/text-input.js'
import { shortNames } from '../../lib/routing/short-names.js'
import type { Subject } from '../../lib/routing/types.js'
import { report } from '../routing/report-data.js'
import { BOOKS } from './run-cli.js'
import { runHere } from './run-here.js'

t.test('wrong command lines are found before a model is', async t => {
  const folder = t.testdir({ 'a.txt': 'text', 'b.txt': 'text', 'empty.txt': '', 'a.csv': 'a,b' })
  const at = (name: string) => join(folder, name)
  symlinkSync(at('a.txt'), at('link.txt'))
  mkdirSync(at('tables'))
  writeFileSync(at('tables/layers.csv'), 'text')
  symlinkSync('/dev/null', at('tables/cost.json'))
  const a = at('a.txt')
  const model = ['--model', '/no/such/model']
  for (const [args, code, message] of [
    [[...model], 2, /missing required argument 'files'/],
    [[a], 2, /no model is given: use --model/],
    [[a, '--model', ''], 2, /no model is given/],
    [[a, ...model, '--window', '1'], 2, /--window: expected an integer >= 2, got 1/],
    [[a, ...model, '--limit', '1.5'], 2, /--limit: expected an integer >= 1, got 1.5/],
    [[a, ...model, '--page-tokens', '-1'], 2, /--page-tokens: expected an integer >= 0, got -1/],
    [[a, ...model, '--threads', '0'], 2, /--threads: expected/],
    [[a, ...model, ...model], 2, /the model \/no\/such\/model is given twice/],
    [[a, a, ...model], 2, /the file .*a\.txt is given twice/],
    [[a, at('link.txt'), ...model], 2, /the file .*link\.txt is given twice/],
    [['-', '-', ...model], 2, /the file - is given twice/],
    [['-', ...model, '--model', 'other'], 2, /-: can be read once; several models need a file/],
    [[...model, '--out', 'r.html', a], 2, /missing required argument 'files'/],
    [[a, ...model, '--out', 'r.txt'], 2, /--out: expected a file \.html or \.json, got r\.txt/],
    [[a, ...model, '--out', at('r.html'), at('./r.html')], 2, /r\.html is given twice/],
    [[a, ...model, '--tokens', 't.txt'], 2, /--tokens: expected a file \.parquet or \.csv/],
    [[at('a.csv'), ...model, '--tokens', at('a.csv')], 2, /a\.csv: is a file that is read/],
    [[a, ...model, '--out', at('no/r.html')], 1, /ERR_CANNOT_WRITE: .*no\/r\.html: ENOENT/],
    [[a, ...model, '--tables', at('no/tables')], 1, /ERR_CANNOT_WRITE: .*no\/tables: ENOENT/],
    [[a, ...model, '--tables', at('b.txt')], 1, /ERR_CANNOT_WRITE: .*b\.txt: is not a directory/],
    [
      [at('tables/layers.csv'), ...model, '--tables', at('tables')],
      ...([2, /tables\/layers\.csv: is a file that is read/] as const),
    ],
    [
      [a, ...model, '--tables', at('tables'), '--tokens', at('tables/cost.csv')],
      ...([2, /the file .*tables\/cost\.csv is given twice/] as const),
    ],
    [
      [a, ...model, '--tables', at('new.json'), '--out', at('new.json')],
      ...([2, /the file .*new\.json is given twice/] as const),
    ],
    [
      [a, ...model, '--out', at('tables/cost.json')],
      ...([1, /ERR_CANNOT_WRITE: .*cost\.json: is not a regular file/] as const),
    ],
    [[at('no.txt'), ...model], 1, /ERR_NOT_FOUND: .*no\.txt: no such file/],
    [[folder, ...model], 1, /ERR_NOT_FOUND: .*: is a directory/],
    [[at('empty.txt'), ...model], 1, /ERR_BAD_PROMPT: .*empty\.txt: the file is empty/],
    [[a, ...model], 1, /ERR_NOT_FOUND/],
    [[a, '--model', BOOKS, '--window', '5000'], 2, /--window: .*from 2 to \d+, got 5000/],
  ] as const) {
    const { code: got, stdout, stderr } = await runHere(['routing', ...args])
    t.equal(got, code, `${args.join(' ')}: ${stderr}`)
    t.match(stderr, message)
    t.equal(stdout, '')
  }
  mkdirSync(at('html.html'))
  const { stderr } = await runHere(['routing', a, ...model, '--out', at('html.html')])
  t.match(stderr, /ERR_CANNOT_WRITE: .*html\.html: is a directory/)
  t.equal(readdirSync(folder).length, 7, 'nothing is written')
  t.equal(readdirSync(at('tables')).length, 2, 'nor there')
})

/** Pieces of at most `size` bytes. */
function pieces(bytes: Buffer, size: number): Readable {
  const parts = []
  for (let i = 0; i < bytes.length; i += size) parts.push(bytes.subarray(i, i + size))
  return Readable.from(parts, { objectMode: true })
}

async function readAll(input: TextInput): Promise<string> {
  let text = ''
  for await (const piece of input.read()) {
    t.not(piece, '')
    text += piece
  }
  return text
}

t.test('a text in pieces of any size', async t => {
  const text = 'naïve ☕ 日本語 👩‍🔬\n'
  for (const [size, before] of [1, 2, 3, 1000].flatMap(
    n =>
      [
        [n, ''],
        [n, '\uFEFF'],
      ] as const,
  )) {
    const bytes = Buffer.from(before + text)
    const input = await TextInput.find('-', () => pieces(bytes, size))
    t.equal(input.size, undefined)
    t.equal(await readAll(input), text, `${size}`)
    t.equal(input.bytesOf(text.length), bytes.length)
  }
  const path = join(t.testdir({ 'a.txt': text.repeat(9000) }), 'a.txt')
  const input = await TextInput.find(path, () => Readable.from([]))
  t.equal(input.size, Buffer.byteLength(text) * 9000)
  for (const time of ['first', 'second']) t.equal(await readAll(input), text.repeat(9000), time)
})

t.test('bytes that are no UTF-8 are an error that says where', async t => {
  const folder = t.testdir()
  for (const [name, bytes, message] of [
    [
      'latin1',
      Buffer.from('caf\xe9 noir', 'latin1'),
      /latin1: not UTF-8 text, between bytes 0 and/,
    ],
    ['cut', Buffer.from('☕').subarray(0, 2), /cut: not UTF-8 text, at the end/],
    ['late', Buffer.concat([Buffer.alloc(70_000, 'a'), Buffer.of(0xff)]), /bytes 65536 and 70001/],
  ] as const) {
    const path = join(folder, name)
    writeFileSync(path, bytes)
    const input = await TextInput.find(path, () => Readable.from([]))
    await t.rejects(readAll(input), { code: 'ERR_BAD_FILE', message })
  }
})

t.test('a file that changes while it is read', async t => {
  const path = join(t.testdir({ 'a.txt': 'é'.repeat(100_000) }), 'a.txt')
  const input = await TextInput.find(path, () => Readable.from([]))
  writeFileSync(path, `${'é'.repeat(100_000)}later`)
  t.equal(await readAll(input), 'é'.repeat(100_000), 'its length is that of the start')
  const reading = input.read()
  await reading.next()
  writeFileSync(path, 'é'.repeat(40_000))
  await t.rejects(async () => {
    for await (const _ of reading);
  }, /a\.txt: became shorter meanwhile: \d+ bytes, 200000 before/)
})

t.test('the bar moves by time, not by windows', async t => {
  const bars: unknown[][] = []
  const show = (limit?: number) =>
    showTokens(
      { update: (...bar) => bars.push(bar) },
      { name: '/some/folder/a.txt', size: 2000, bytesOf: characters => 2 * characters },
      limit,
    )
  const windows = show()
  for (let i = 1; i <= 100; i++) windows(10 * i, i)
  show(500)(10, 1)
  t.ok(bars.length < 20, `${bars.length} steps`)
  t.same(bars[0]!.slice(0, 3), ['Routing a.txt', 20, 2000])
  t.same(bars.at(-1)!.slice(0, 3), ['Routing a.txt', 1, 500])
  t.match(bars[0]![3], /^[\d,.]+ tokens\/s$/)
})

t.test('names are as short as they can be', async t => {
  const names = (...paths: string[]) => [...shortNames(paths).values()]
  t.same(names('a/book.txt', 'b/code.txt', 'b/code.txt'), ['book.txt', 'code.txt'])
  t.same(names('/x/a/b.txt', '/y/a/b.txt', 'c.txt'), ['x/a/b.txt', 'y/a/b.txt', 'c.txt'])
  t.same(names('b.txt', 'a/b.txt'), ['b.txt', 'a/b.txt'])
  t.same(names('m/', 'm', '-', '/'), ['m', 'm', '-', '/'])
  t.same(names('C:\\m\\before', 'npm:moepp-books-7m'), ['before', 'npm:moepp-books-7m'])
})

t.test('a summary of what is alike, and of one token', async t => {
  const [subject] = report().subjects
  const layers = subject!.layers.map(layer => ({ ...layer, kinds: layer.kinds.map(() => 'ffn') }))
  const vocabulary = subject!.vocabulary.map(entry => ({
    ...entry,
    ffnExperts: { count: 50, mean: 2, halfWidth: 0 },
  }))
  const of = (file: string) => ({ ...subject!, file, tokens: 1, layers, vocabulary }) as Subject
  const text = summary({ ...report(), subjects: [of('a/x.txt'), of('b/x.txt')] })
  t.match(text, /^a\/x\.txt through a on cpu, float32: 1 token in windows of 4\n/)
  t.match(text, / {2}a: a\/x\.txt +a: b\/x\.txt\n/)
  t.match(text, /operations per token +2\.00 M +2\.00 M\n/)
  t.notMatch(text, /twin|dearest|cheapest/, 'it is its own twin')
})

t.test('two subjects are beside each other in the summary', async t => {
  const lines = summary(report()).split('\n')
  t.equal(lines[0], 'x, "y".txt through a on cpu, float32: 6 tokens in windows of 4')
  const row = (label: string) => {
    const line = lines.find(each => each.trimStart().startsWith(label))!
    return line.trim().split(/ {2,}/)
  }
  t.same(row('a:'), ['a: x, "y".txt', 'b: z.txt'])
  t.same(row('FFN experts'), ['FFN experts per token', '1.250 ± 0.125 of 2', '1.250 ± 0.125 of 2'])
  t.same(row('FFN picks'), ['FFN picks', '41.7 %', '41.7 %'])
  t.same(row('zero picks'), ['zero picks', '8.3 %', '8.3 %'])
  const operations = "2.00 M, 50.0 % of the twin's"
  t.same(row('operations'), ['operations per token', operations, '-'])
  t.same(row('bytes'), ['bytes per token', "3.00 MB, 75.0 % of the twin's", '-'])
  t.same(row('prefill')[1], '100.0 % predicted')
  t.same(row('dearest')[1], '"the" 2.000 ± 0.010 (12)')
  t.same(row('cheapest')[1], '"" 1.750 ± 0.010 (10)')
  for (const line of lines) t.ok(line.length <= 100, line)
  t.notMatch(lines.join('\n'), /naïve/, 'a rare one')
})
