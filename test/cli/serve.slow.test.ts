/** `moepp serve` as a process: its options, its words, its end. */
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { BOOKS, finish, runCli, startCli } from './run-cli.js'

async function start(t: Test, args: readonly string[] = [], env: NodeJS.ProcessEnv = {}) {
  const all = ['serve', '--model', BOOKS, '--device', 'cpu', '--port', '0', ...args]
  const child = startCli(all, env)
  t.teardown(() => child.kill('SIGKILL'))
  const ended = finish(child)
  let text = ''
  for (;;) {
    const [part] = await once(child.stderr, 'data')
    text += part
    const address = /http:\/\/[\d.:]+/.exec(text)?.[0]
    if (address) return { child, ended, address }
  }
}

const HEADERS = { 'content-type': 'application/json' }
const complete = (address: string, body: object, headers = {}) =>
  fetch(`${address}/v1/completions`, {
    method: 'POST',
    headers: { ...HEADERS, ...headers },
    body: JSON.stringify(body),
  })

t.test('it serves until SIGTERM, and lets a stream end', async t => {
  const { child, ended, address } = await start(t)
  const body = { model: 'books-7m', prompt: 'The old', max_tokens: 400, ignore_eos: true }
  const answer = await complete(address, { ...body, stream: true })
  t.equal(answer.status, 200)
  child.kill('SIGTERM')
  const stream = await answer.text()
  t.match(stream, /data: \[DONE\]\n\n$/)
  t.equal(stream.match(/"finish_reason":"length"/g)?.length, 1, 'it has ended by itself')
  const { code, stdout, stderr } = await ended
  t.equal(code, 0)
  t.match(stderr, /moepp: books-7m on cpu: http:\/\/127\.0\.0\.1:\d+\nmoepp: closing: /)
  const lines = stdout
    .trim()
    .split('\n')
    .map(line => JSON.parse(line))
  const line = lines.find(({ route }) => route === '/v1/completions')
  t.match(line, { level: 30, method: 'POST', status: 200, id: String, ms: Number })
  t.notMatch(stdout, /The old/, 'no body is logged')
})

t.test('a stream that takes longer than the drain is cut, with a proper end', async t => {
  const { child, ended, address } = await start(t, ['--drain-ms', '100'])
  const body = { prompt: 'The old', max_tokens: 4000, ignore_eos: true, stream: true }
  const answer = await complete(address, body)
  const reader = answer.text()
  child.kill('SIGTERM')
  t.match(await reader, /"code":"shutting_down".*\n\ndata: \[DONE\]\n\n$/)
  t.equal((await ended).code, 0)
})

t.test('the second Ctrl-C ends it at once', async t => {
  const { child, ended, address } = await start(t)
  const body = { prompt: 'The old', max_tokens: 4000, ignore_eos: true, stream: true }
  const answer = await complete(address, body)
  child.kill('SIGINT')
  await once(child.stderr, 'data')
  child.kill('SIGINT')
  t.equal((await ended).code, 130)
  await t.rejects(answer.text())
})

t.test('keys come by the environment; bodies are logged if that is asked', async t => {
  const env = { MOEPP_API_KEY: 'secret-key' }
  const { child, ended, address } = await start(t, ['--log-bodies', '--model-name', 'm'], env)
  t.equal((await complete(address, { prompt: 'The old' })).status, 401)
  const headers = { authorization: 'Bearer secret-key' }
  t.equal((await complete(address, { model: 'm', prompt: 'The old' }, headers)).status, 200)
  child.kill('SIGINT')
  const { code, stdout } = await ended
  t.equal(code, 0)
  t.match(stdout, /"prompt":"The old"/)
  t.notMatch(stdout, /secret-key/)
})

t.test('wrong command lines', async t => {
  const serve = (...args: string[]) => runCli(['serve', '--model', BOOKS, ...args])
  for (const [args, expected] of [
    [['--max-running', '0'], /--max-running: expected an integer >= 1, got 0/],
    [['--api-key', 'a', '--api-key', ''], /--api-key: expected a string that is not empty/],
    [['--cors-origin', 'a.example'], /--cors-origin: expected an origin/],
    [['--port', 'x'], /--port <n>/],
    [['--port', '70000'], /--port: expected an integer from 0 to 65535, got 70000/],
    [['--log-level', 'loud'], /--log-level/],
    [['--threads', '0'], /--threads: expected/],
  ] as const) {
    const { code, stderr } = await serve(...args)
    t.equal(code, 2, args.join(' '))
    t.match(stderr, expected)
  }
})

t.test('a port that is taken', async t => {
  const { address } = await start(t)
  const { port } = new URL(address)
  const { code, stderr } = await runCli(['serve', '--model', BOOKS, '--port', port])
  t.equal(code, 1)
  t.match(stderr, /moepp: .*EADDRINUSE.*127\.0\.0\.1:\d+/)
})
