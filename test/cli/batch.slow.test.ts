/** `moepp generate --prompts`. */
import { once } from 'node:events'
import {
  appendFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { splitLines } from '../../lib/cli/lines.js'
import { loadModel } from '../../lib/load/load.js'
import { BOOKS, finish, startCli } from './run-cli.js'
import { runHere } from './run-here.js'

/** More than run at once, so that a run can be ended in its middle. */
const MANY = 100
const FLAGS = ['generate', '--model', BOOKS, '--max-new-tokens', '6']

function parsed(text: string) {
  t.match(text, /^(.+\n)*$/, 'whole lines')
  return text
    .split('\n')
    .slice(0, -1)
    .map(line => JSON.parse(line))
}

/** Different prompts, so that results differ too. */
function prompts(n: number): string {
  return Array.from({ length: n }, (_, i) => `${JSON.stringify(`Chapter ${i}`)}\n`).join('')
}

t.test('each line gets what a call of its own gives', async t => {
  const lines = [
    { id: 'a', prompt: 'The old man' },
    { id: 17, prompt: 'Once upon a time', temperature: 0.8, seed: 3, maxNewTokens: 9 },
    { prompt: 'She said', logprobs: 2, routing: true, stop: ['e'] },
    { prompt: [1, 300, 400], topP: 0.5, doSample: true, seed: 4, numReturnSequences: 2 },
    { prompt: 'The old man', temperature: 1 },
  ]
  const input = `"A bare text"\n\n${lines.map(line => `${JSON.stringify(line)}\r\n`).join('')}`
  const flags = [...FLAGS, '--seed', '1', '--prompts', '-']
  const { code, stdout, stderr } = await runHere(flags, { input })
  t.equal(code, 0, stderr)
  t.match(stderr, /^moepp: 6 prompts, 0 failed, [\d,]+ tokens at [\d,.]+ tokens\/s\n$/)
  const results = parsed(stdout)
  t.same(
    results.map(({ id }) => id),
    [1, 'a', 17, 5, 6, 7],
    'the id, or the number of the line',
  )
  await using model = await loadModel(BOOKS)
  for (const [i, { id, ...line }] of [{ id: 0, prompt: 'A bare text' }, ...lines].entries()) {
    const { prompt, ...own } = line
    const expected = [await model.generate(prompt, { maxNewTokens: 6, seed: 1, ...own })].flat()
    const given = results[i].results ?? [results[i]]
    t.equal(given.length, expected.length)
    for (const [n, result] of expected.entries()) {
      const { text, tokenIds, finishReason, logprobs, routing, usage } = result
      t.match(given[n], { text, finishReason })
      t.same(given[n].tokenIds, tokenIds)
      t.same(given[n].logprobs, logprobs)
      t.same(given[n].usage, {
        promptTokens: usage.promptTokens,
        generatedTokens: usage.generatedTokens,
      })
      t.same(
        given[n].routing?.layers[5].expertWeights,
        routing && [...routing.layers[5]!.expertWeights],
      )
    }
  }
})

t.test('a wrong line has an error for a result, and the others run', async t => {
  const wrong: [string | Buffer, RegExp][] = [
    ['{"prompt": "x"', /^expected JSON: /],
    ['[1]', /^expected a string or an object with a prompt, got \[1\]$/],
    ['{"id": 1}', /^prompt: expected a text or token ids, got nothing$/],
    ['{"prompt": ["a"]}', /^prompt: expected a text or token ids, got \["a"\]$/],
    ['{"prompt": "x", "id": {}}', /^id: expected a string or a number, got an object$/],
    ['{"prompt": "x", "id": 1e999}', /^id: expected a string or a number, got Infinity$/],
    ['{"prompt": "x", "max_tokens": 3}', /^unknown option "max_tokens": did you mean maxNewTokens/],
    ['{"prompt": "x", "topK": -1}', /^topK: expected an integer >= 0, got -1$/],
    ['{"prompt": "x", "signal": 1}', /^signal: expected an AbortSignal/],
    [
      '{"prompt": "x", "numReturnSequences": 2}',
      /^numReturnSequences: expected 1 without sampling/,
    ],
    ['{"prompt": [5000]}', /^prompt\[0\]: expected a token id from 0 to 2047, got 5000$/],
    ['""', /^prompt: expected at least one token, got none$/],
    [Buffer.from([0x22, 0xff, 0x22]), /^expected UTF-8$/],
  ]
  const folder = t.testdir()
  const file = join(folder, 'prompts.jsonl')
  const good = Buffer.from('"The old man"\n')
  const lines = wrong.flatMap(([line]) => [Buffer.from(line), Buffer.from('\n'), good])
  writeFileSync(file, Buffer.concat(lines))
  const { code, stdout, stderr } = await runHere([...FLAGS, '--prompts', file])
  t.equal(code, 1)
  const results = parsed(stdout)
  t.equal(results.length, 2 * wrong.length)
  for (const [i, [, message]] of wrong.entries()) {
    const { error, text } = results[2 * i]
    t.match(error, { line: 2 * i + 1, message })
    t.equal(text, undefined)
    t.equal(results[2 * i + 1].text, results[1].text)
    t.equal(results[2 * i + 1].error, undefined)
  }
  t.equal(results[2 * 11].error.code, 'ERR_BAD_PROMPT')
  t.match(stderr, `moepp: ${file}:1: expected JSON: `)
  t.match(stderr, /\nmoepp: more lines have errors; the results name them\nmoepp: 26 prompts, 13 f/)
  t.equal(stderr.split('\n').length, 10 + 2 + 1, 'no more than ten of them')
  const with1e999 = results[2 * 5]
  t.equal(with1e999.id, 11, 'a wrong id is no id')
})

t.test('what stops the whole run', async t => {
  const folder = t.testdir({ 'prompts.jsonl': prompts(2), 'foreign.txt': 'my notes\n' })
  const [file, foreign] = [join(folder, 'prompts.jsonl'), join(folder, 'foreign.txt')]
  const cases: [string[], number, RegExp][] = [
    [['--prompts', join(folder, 'none')], 1, /ERR_NOT_FOUND: .*none: ENOENT/],
    [['--prompts', folder], 1, /ERR_NOT_FOUND: .*: EISDIR/],
    [['--prompts', file, '--out', join(folder, 'no/out')], 1, /ERR_CANNOT_WRITE: .*out: ENOENT/],
    [
      ['--prompts', file, '--out', file],
      2,
      /^moepp: --out: .* is the file that the prompts are read from\n$/,
    ],
    [['--prompts', file, '--out', foreign], 1, /ERR_CANNOT_WRITE: .*line 1 is not a result of/],
    [['--prompts', file, '--top-k', '-1'], 2, /^moepp: --top-k: expected/],
    [['--prompts', file, '--stop-token-ids', '9999'], 2, /^moepp: --stop-token-ids\[0\]: expected/],
  ]
  for (const [args, expected, message] of cases) {
    const { code, stdout, stderr } = await runHere([...FLAGS, ...args])
    t.equal(code, expected, args.join(' '))
    t.equal(stdout, '')
    t.match(stderr, message)
  }
  t.equal(readFileSync(file, 'utf8'), prompts(2))
  t.equal(readFileSync(foreign, 'utf8'), 'my notes\n')
})

t.test('a cut file is continued, whatever is left of it', async t => {
  const lines = `${prompts(3)}{bad\n${prompts(1)}`
  const folder = t.testdir({ 'prompts.jsonl': lines })
  const [file, out] = [join(folder, 'prompts.jsonl'), join(folder, 'out.jsonl')]
  const resume = (more: string[] = []) =>
    runHere([...FLAGS, '--prompts', file, '--out', out, ...more])
  const first = await resume()
  t.equal(first.code, 1, 'a wrong line')
  t.equal(first.stdout, '')
  const whole = readFileSync(out)
  t.equal(parsed(whole.toString()).length, 5)
  const again = await resume()
  t.equal(again.code, 1, 'it still has an error')
  t.equal(again.stderr, 'moepp: done before: 5 prompts; nothing is left to do\n')
  const ends = [...whole.toString('latin1').matchAll(/\n/g)].map(({ index }) => index + 1)
  for (const length of [0, 1, 6, 30, ends[0]! - 1, ends[0]!, ends[1]! + 9, whole.length - 1]) {
    truncateSync(out, length)
    t.equal((await resume()).code, 1)
    t.same(readFileSync(out), whole, `from ${length} bytes on`)
  }
})

t.test('a file of another run is left alone', async t => {
  const folder = t.testdir({ 'prompts.jsonl': prompts(3) })
  const [file, out] = [join(folder, 'prompts.jsonl'), join(folder, 'out.jsonl')]
  const resume = (more: string[] = []) =>
    runHere([...FLAGS, '--prompts', file, '--out', out, ...more])
  t.equal((await resume()).code, 0)
  const whole = readFileSync(out, 'utf8')
  const refuse = async (message: RegExp, more: string[] = []) => {
    const { code, stderr } = await resume(more)
    t.equal(code, 1)
    t.match(stderr, message)
    t.equal(readFileSync(out, 'utf8'), whole)
  }
  const other = /line 1 is the result of another run: line 1 of .* another prompt, option or model/
  await refuse(other, ['--temperature', '0.5'])
  await refuse(other, ['--logit-bias', '5=1'])
  await refuse(other, ['--dtype', 'float32'])
  t.equal((await resume(['--threads', '1'])).code, 0, 'where it runs does not matter')
  writeFileSync(file, prompts(2))
  await refuse(/line 3 is the result of another run: .* has only 2 prompts/)
  writeFileSync(file, prompts(3).replace('Chapter 1', 'Section 1'))
  await refuse(/line 2 is the result of another run: line 2 of/)
  writeFileSync(file, prompts(4))
  t.equal((await resume()).code, 0, 'more prompts are answered')
  t.equal(parsed(readFileSync(out, 'utf8')).length, 4)
  for (const text of ['{"id":1}', '{"id":1,"prompt":"x"}', '{"name":', 'a', '\u00e9']) {
    writeFileSync(out, text)
    const { code, stderr } = await resume()
    t.equal(code, 1)
    t.match(stderr, /line 1 is not a result of --prompts; the file is not changed/)
    t.equal(readFileSync(out, 'utf8'), text)
  }
})

/** Starts a run of many prompts. Resolves once some results are there. */
async function startRun(file: string, out: string) {
  const args = [...FLAGS, '--max-new-tokens', '40', '--ignore-eos', '--prompts', file, '--out', out]
  const child = startCli(args)
  child.stdin.end()
  const finished = finish(child)
  while (!existsSync(out) || readFileSync(out, 'utf8').split('\n').length < 5) {
    if (child.exitCode !== null) throw new Error((await finished).stderr)
    await sleep(5)
  }
  return { args, child, finished }
}

async function runAndSignal(file: string, out: string, signal: NodeJS.Signals) {
  const { args, child, finished } = await startRun(file, out)
  child.kill(signal)
  return { args, ...(await finished) }
}

t.test('two runs do not write to one file', async t => {
  const folder = t.testdir({ 'prompts.jsonl': prompts(MANY) })
  const [file, out] = [join(folder, 'prompts.jsonl'), join(folder, 'out.jsonl')]
  const link = join(folder, 'link.jsonl')
  symlinkSync(out, link)
  const { args, child, finished } = await startRun(file, out)
  // It stands still, but is alive.
  child.kill('SIGSTOP')
  const before = readFileSync(out)
  for (const name of [out, link]) {
    const { code, stderr } = await runHere(args.with(-1, name))
    t.equal(code, 1)
    t.match(stderr, `ERR_CANNOT_WRITE: ${name}: another process writes to it (${child.pid}). If it`)
  }
  t.ok(readFileSync(out).subarray(0, before.length).equals(before), 'nothing is cut')
  child.kill('SIGKILL')
  t.equal((await finished).code, undefined)
  t.equal((await runHere(args)).code, 0, 'the lock of a killed run is taken over')
  t.equal(parsed(readFileSync(out, 'utf8')).length, MANY)
  t.same(readdirSync(folder).sort(), ['link.jsonl', 'out.jsonl', 'prompts.jsonl'])
})

t.test('a file that grows by itself is not written to', async t => {
  const folder = t.testdir()
  const out = join(folder, 'out.jsonl')
  const input = new PassThrough()
  const ended = runHere([...FLAGS, '--prompts', '-', '--out', out], { input })
  input.write('"The old man"\n')
  while (!existsSync(out) || !readFileSync(out, 'utf8').endsWith('\n')) await sleep(5)
  appendFileSync(out, '{"id":')
  const foreign = readFileSync(out)
  input.end('"The young man"\n')
  const { code, stderr } = await ended
  t.equal(code, 1)
  t.match(stderr, /^moepp: ERR_CANNOT_WRITE: .*: another process writes to it: expected \d+ bytes/)
  t.same(readFileSync(out), foreign)
  t.same(readdirSync(folder), ['out.jsonl'])
})

t.test('killed or interrupted, it goes on where it stopped', async t => {
  const folder = t.testdir({ 'prompts.jsonl': prompts(MANY) })
  const file = join(folder, 'prompts.jsonl')
  const [killed, stopped, whole] = ['killed', 'stopped', 'whole'].map(name => join(folder, name))
  const kill = await runAndSignal(file, killed!, 'SIGKILL')
  t.equal(kill.code, undefined)
  const stop = await runAndSignal(file, stopped!, 'SIGINT')
  t.equal(stop.code, 130)
  const [done, ended] = stop.stderr.split('\n')
  t.match(done, /^moepp: \d+ prompts? done; the same command continues from there$/)
  t.equal(ended, 'moepp: interrupted')
  t.equal(stop.stderr, `${done}\n${ended}\n`, 'and nothing else')
  const results = parsed(readFileSync(stopped!, 'utf8')).length
  t.ok(results >= 4 && results < MANY, `${results} of ${MANY}`)
  for (const { args } of [kill, stop]) t.equal((await runHere(args)).code, 0)
  const args = kill.args.with(-1, whole!)
  t.equal((await runHere(args)).code, 0)
  const expected = readFileSync(whole!, 'utf8')
  t.equal(parsed(expected).length, MANY)
  t.equal(readFileSync(killed!, 'utf8'), expected)
  t.equal(readFileSync(stopped!, 'utf8'), expected)
})

t.test('an answer comes before the next prompt is known', async t => {
  const child = startCli([...FLAGS, '--prompts', '-'])
  child.stdout.setEncoding('utf8')
  const answers = child.stdout[Symbol.asyncIterator]()
  for (const prompt of ['The old man', 'Once upon']) {
    child.stdin.write(`${JSON.stringify(prompt)}\n`)
    const { value } = await answers.next()
    t.equal(parsed(value).length, 1)
  }
  child.stdin.end()
  t.ok((await answers.next()).done)
})

t.test('Ctrl-C while standard input is silent', async t => {
  const child = startCli([...FLAGS, '--prompts', '-'])
  child.stdin.write('"The old man"\n')
  child.stdout.once('data', () => child.kill('SIGINT'))
  const { code, stdout, stderr } = await finish(child)
  t.equal(code, 130)
  t.equal(parsed(stdout).length, 1)
  t.match(stderr, /^moepp: interrupted\n$/m)
})

t.test('a reader that leaves ends the run', async t => {
  const child = startCli([...FLAGS, '--prompts', '-'])
  child.stdin.on('error', () => {})
  child.stdin.write(prompts(2000))
  child.stdout.once('data', () => child.stdout.destroy())
  t.same(await once(child, 'exit'), [0, null])
})

t.test('a bounded number of prompts is read ahead', async t => {
  const input = new PassThrough({ highWaterMark: 1 })
  let read = 0
  const feed = (async () => {
    for (; read < 200; read++)
      if (!input.write(`${JSON.stringify({ prompt: `Part ${read}`, maxNewTokens: 12 })}\n`))
        await new Promise(resolve => input.once('drain', resolve))
    input.end()
  })()
  let ahead = 0
  const output = new PassThrough()
  let written = 0
  output.on('data', (text: Buffer) => {
    written += text.toString().split('\n').length - 1
    ahead = Math.max(ahead, read - written)
  })
  const { run } = await import('../../lib/cli/run.js')
  const { Terminal } = await import('../../lib/cli/terminal.js')
  const stderr = new PassThrough().resume()
  const streams = {
    stdin: input,
    stdout: output,
    stderr,
    isTerminal: { stdout: false, stderr: false },
  }
  t.equal(await run([...FLAGS, '--prompts', '-'], new Terminal(streams, {})), 0)
  await feed
  t.equal(written, 200)
  t.ok(ahead <= 40, `${ahead} prompts ahead`)
})

t.test('progress on a terminal', async t => {
  const folder = t.testdir({ 'prompts.jsonl': `${prompts(40)}\n\n` })
  const isTerminal = { stdout: false, stderr: true }
  const drawn = async (from: string, input = '') => {
    const { stderr } = await runHere([...FLAGS, '--prompts', from], { isTerminal, input })
    return stderr.split('\r\u001b[K')
  }
  const file = await drawn(join(folder, 'prompts.jsonl'))
  t.match(file[1], /^\d+ of 40 prompts, [\d,.]+ tokens\/s, (\d+ s|\d+:\d\d min) left$/)
  t.match(file.at(-1), /^moepp: 40 prompts, 0 failed, .*\n$/)
  const stdin = await drawn('-', prompts(3))
  const { stderr } = await runHere([...FLAGS, '--prompts', '-'], {
    isTerminal: { stdout: true, stderr: true },
    input: prompts(3),
  })
  t.notMatch(stderr, '\r', 'the results show it, and share the screen')
  t.match(stdin[1], /^\d prompts?, [\d,.]+ tokens\/s$/)
})

t.test('no prompts need no model', async t => {
  const args = ['generate', '--model', '/does/not/exist', '--prompts', '-']
  t.same(await runHere(args, { input: '\n \n' }), {
    code: 0,
    stdout: '',
    stderr: 'moepp: no prompts\n',
  })
})

t.test('lines of any length, in any pieces', async t => {
  const text = `ab\n\n${'x'.repeat(11)}\n\u00e9\r\nend`
  const bytes = Buffer.from(text)
  for (const size of [1, 2, 7, 100]) {
    const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
      bytes.subarray(i * size, (i + 1) * size),
    )
    const lines = []
    for await (const line of splitLines(pieces as unknown as AsyncIterable<Buffer>, 10)) {
      lines.push([line.number, line.text ?? line.fault, line.end, line.isWhole])
    }
    t.same(lines, [
      [1, 'ab', 3, true],
      [2, '', 4, true],
      [3, 'expected at most 10 bytes, got 11', 16, true],
      [4, '\u00e9\r', 20, true],
      [5, 'end', 23, false],
    ])
  }
})
