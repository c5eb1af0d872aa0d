/**
 * A few thousand inputs of each format, past findings, and the fuzzer itself: it must find what it
 * is made to find. `npm run fuzz -- --minutes=60` goes on from here.
 */

import { open, readFile, stat, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import t from 'tap'
import { MoeppError } from '../../lib/errors.js'
import { corpusFiles, readEntry, writeEntry } from './corpus.js'
import { type Format, type Place, parserFormats } from './formats.js'
import { Inputs } from './inputs.js'
import { LoadReader, loadFormats } from './loads.js'
import { Finding, judge, placeOf } from './oracle.js'
import { ParserReader } from './readers.js'
import { Session } from './session.js'
import { supervise } from './supervisor.js'

/** Of each format, in proportion to the time that one takes. */
const INPUTS = 1000
const HUB_INPUTS = 200
const LOADS = 60

for (const { name } of await parserFormats()) {
  const inputs = name === 'hub' ? HUB_INPUTS : INPUTS
  t.test(`${inputs} inputs: ${name}`, async t => {
    const session = await Session.start('parsers', name)
    t.teardown(() => session.close())
    for (let seed = 1; seed <= inputs; seed++) await session.run(session.inputs.next(seed))
    for (const { input, finding } of session.findings) t.fail(`seed ${input.id}: ${finding}`)
    const { read = 0, ...refused } = session.outcomes
    t.ok(read > 0, 'some are read')
    t.ok(Object.values(refused).reduce((a, b) => a + b, 0) > inputs / 10, 'most damage is noticed')
    t.ok(session.inputs.places > 8, `${session.inputs.places} places`)
  })
}

t.test(`${LOADS} whole loads, in a process of their own`, async t => {
  let done = 0
  const task = { target: 'loads', format: undefined, chain: undefined } as const
  await supervise(
    { ...task, from: 1, step: 1, inputs: LOADS, until: Date.now() + 600_000 },
    {
      report: report => {
        done += report.done
        for (const { seed, found } of report.findings) t.fail(`seed ${seed}: ${found}`)
      },
      died: ({ seed, found }) => t.fail(`seed ${seed}: ${found}`),
      rss: () => {},
    },
  )
  t.equal(done, LOADS)
})

t.test('past findings', async t => {
  const formats = { parsers: await parserFormats(), loads: await loadFormats() }
  const readers = { parsers: new ParserReader(), loads: await LoadReader.start() }
  t.teardown(() => {
    for (const reader of Object.values(readers)) reader.close()
  })
  for (const path of corpusFiles()) {
    const { target, format: name, files } = readEntry(path)
    const format = formats[target].find(format => format.name === name)!
    const { finding } = await readers[target].run(format, files)
    t.equal(finding, undefined, basename(path))
  }
})

t.test('an input is its seeds', async t => {
  const [formats, again] = [await parserFormats(), await parserFormats()]
  const inputs = new Inputs(formats)
  const ids: string[] = []
  for (let seed = 1; seed <= 400; seed++) {
    const input = inputs.next(seed)
    inputs.learn(input, { kind: 'x', place: String(seed % 50) })
    ids.push(input.id)
    const [same, alone] = [again, again.filter(({ name }) => name === input.format.name)].map(
      formats => new Inputs(formats).byId(input.id),
    )
    t.equal(same!.format.name, input.format.name)
    t.strictSame([...same!.files], [...input.files], input.id)
    t.strictSame([...alone!.files], [...input.files], 'as the only format')
  }
  t.ok(
    ids.some(id => id.includes('.')),
    'some go on from others',
  )
  const path = writeEntry(t.testdir(), 'x', {
    target: 'parsers',
    format: 'config',
    seed: '1',
    found: 'x',
    files: inputs.byId('1').files,
  })
  t.strictSame([...readEntry(path).files], [...inputs.byId('1').files])
})

t.test('what is found', async t => {
  const codes = new Set(['ERR_BAD_FILE'] as const)
  const found = async (error: unknown) => (await judge(() => Promise.reject(error), codes)).finding
  t.equal(await found(new MoeppError('ERR_BAD_FILE', 'x: wrong')), undefined)
  t.match(await found(new RangeError('Maximum call stack')), /RangeError: Maximum/)
  t.match(await found('text'), /threw text/)
  t.match(await found(new MoeppError('ERR_BAD_PROGRAM', 'x')), /unexpected ERR_BAD_PROGRAM/)
  t.match(await found(new MoeppError('ERR_BAD_FILE', 'x \x1b[2J')), /control characters/)
  t.match(await found(new MoeppError('ERR_BAD_FILE', 'x'.repeat(30_000))), /30000 characters/)
  t.match(await found(new Finding('lies outside')), /lies outside/)
  t.equal(placeOf('a: "x" has 12 of 0x3f'), placeOf('a: "y\\"z" has 7 of 0x00'))
  const polluted = await judge(async () => {
    Object.assign(Object.prototype, { polluted: 1 })
  }, codes)
  delete (Object.prototype as { polluted?: number }).polluted
  t.match(polluted.finding, /prototype polluted: Object/)
})

t.test('files outside of the folder, files left open, files written', async t => {
  const reader = new ParserReader()
  t.teardown(() => reader.close())
  const files = new Map([['a', Buffer.from('a')]])
  const found = async (act: (directory: string) => Promise<unknown>) => {
    const read = ({ directory }: Place) => act(directory)
    const format: Format = { name: 'x', weight: 1, seeds: [], focus: /./, codes: [], read }
    return (await reader.run(format, files)).finding
  }
  const content = async (folder: string) => t.equal(await readFile(join(folder, 'a'), 'utf8'), 'a')
  t.equal(await found(content), undefined)
  t.match(await found(() => readFile('/etc/hostname').catch(() => {})), /^readFile of \/etc/)
  t.match(await found(folder => stat(join(folder, '..', 'b')).catch(() => {})), /^stat of/)
  t.match(await found(folder => writeFile(join(folder, 'x'), '').catch(() => {})), /^writeFile of/)
  t.match(await found(folder => open(join(folder, 'a'))), /left open/)
  t.match(await found(async () => void Buffer.alloc(1_000_000)), /more is allocated/)
})

t.test('after a worker that died, another goes on behind the input', async t => {
  const directory = t.testdir({
    'worker.mjs': `
      import { writeFileSync } from 'node:fs'
      process.once('message', ({ currentFile, from, inputs }) => {
        writeFileSync(currentFile, '5\\n')
        if (from === 1) process.kill(process.pid, 'SIGKILL')
        const counts = { formats: {}, outcomes: {}, places: 0, findings: [] }
        process.send({ next: from + inputs, done: inputs, ...counts }, () => process.disconnect())
      })`,
  })
  const died: string[] = []
  let done = 0
  await supervise(
    {
      target: 'parsers',
      format: undefined,
      chain: undefined,
      from: 1,
      step: 1,
      inputs: 9,
      until: 1e15,
    },
    {
      report: report => {
        done += report.done
      },
      died: ({ seed, found }) => died.push(`${seed} ${found}`),
      rss: () => {},
    },
    join(directory, 'worker.mjs'),
  )
  t.strictSame(died, ['5 died of SIGKILL'])
  t.equal(done, 4, 'inputs 6 to 9')
})
