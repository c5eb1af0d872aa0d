/** The examples are what they say: type-checked, and run as their users run them. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { BOOKS } from '../cli/run-cli.js'
import { chatCheckpoint } from '../support/chat-checkpoint.js'
import { root } from '../support/golden.js'

// They import the package by its name, which here is the checkout itself.
execFileSync(process.execPath, [
  join(root, 'node_modules/typescript/bin/tsc'),
  '-p',
  join(root, 'examples'),
])

function start(name: string, args: string[], env: NodeJS.ProcessEnv = {}) {
  return spawn(process.execPath, [join(root, 'build', 'examples', `${name}.js`), ...args], {
    cwd: root,
    env: { ...process.env, NODE_OPTIONS: '', ...env },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
}

const exitCode = async (child: ChildProcess) => (await once(child, 'exit'))[0] as number | null

t.test('batch', async t => {
  const prompts = Array.from({ length: 18 }, (_, i) => `Chapter ${i + 1}. The`)
  const file = join(t.testdir(), 'prompts.txt')
  writeFileSync(file, `${prompts.join('\n')}\n\n`)
  const child = start('batch', [file, BOOKS])
  const [lines, code] = await Promise.all([text(child.stdout), exitCode(child)])
  t.equal(code, 0)
  const results = lines
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line))
  t.same(
    results.map(result => result.prompt),
    prompts,
  )
  t.ok(results.every(result => result.text.length > 0))
})

t.test('choice: the likeliest continuation comes first', async t => {
  const child = start('choice', ['The old', ' table', ' man', ' xylophone'], { MODEL: BOOKS })
  const [lines, code] = await Promise.all([text(child.stdout), exitCode(child)])
  t.equal(code, 0)
  const ranked = lines.trimEnd().split('\n')
  t.equal(ranked.length, 3)
  t.equal(ranked[0], '-1.89  man')
  const scores = ranked.map(line => Number.parseFloat(line))
  t.same(
    scores,
    [...scores].sort((a, b) => b - a),
  )
})

t.test('chat: an answer is streamed, and tools are told of', async t => {
  const child = start('chat', [chatCheckpoint(t.testdir()), 'How warm is it?'])
  const [output, code] = await Promise.all([text(child.stdout), exitCode(child)])
  t.equal(code, 0)
  t.ok(output.length > 0)
})

t.test("server: OpenAI's routes, and one of its own", async t => {
  const child = start('server', [BOOKS], { PORT: '0' })
  const ended = exitCode(child)
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  const url = line.toString().trim()
  const post = async (path: string, body: unknown) => {
    const headers = { 'content-type': 'application/json' }
    const answer = await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) })
    t.equal(answer.status, 200)
    return (await answer.json()) as Record<string, never>
  }
  const completion = await post('/v1/completions', { prompt: 'The old man', temperature: 0 })
  t.match(completion, { choices: [{ text: /\S/ }] })
  const { perplexity } = await post('/perplexity', { text: 'The old man' })
  t.ok(Number(perplexity) > 1 && Number(perplexity) < 1000)
  child.kill('SIGTERM')
  t.equal(await ended, 0)
})
