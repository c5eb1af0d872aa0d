/** Streams over real sockets: aborts, slow readers, deadlines, and ends in the middle. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyReply } from 'fastify'
import t, { type Test } from 'tap'
import { loadModel, type Model } from '../../lib/index.js'
import { type ServeOptions, type Server, serve } from '../../lib/server/index.js'
import { Lifecycle } from '../../lib/server/lifecycle.js'
import { resolveServeOptions } from '../../lib/server/options.js'
import { requestSignal } from '../../lib/server/request-signal.js'
import { chatCheckpoint } from '../support/chat-checkpoint.js'
import { root } from '../support/golden.js'
import { checkAnswer, eventsOf } from './openai-answers.js'
import { parseScrape } from './scrape.js'

const books = join(root, 'models', 'books-7m')
const model = await loadModel(books)
t.teardown(() => model.close())

/** A text that runs until it is cut. */
const LONG = { prompt: 'The old man', max_tokens: 4000, ignore_eos: true, n: 4, stream: true }

interface Listening {
  readonly server: Server
  readonly port: number
}

async function listen(t: Test, options: ServeOptions, of: Model = model): Promise<Listening> {
  const server = await serve(of, { drainMs: 0, ...options })
  t.teardown(() => server.close())
  const { port } = new URL(await server.listen({ port: 0 }))
  return { server, port: Number(port) }
}

/** A socket that has sent a request. */
function request(port: number, body: object, url = '/v1/completions'): Socket {
  const text = JSON.stringify(body)
  const head = [
    `POST ${url} HTTP/1.1`,
    'host: localhost',
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(text)}`,
    'connection: close',
  ]
  const socket = connect(port, '127.0.0.1')
  socket.setEncoding('utf8')
  socket.write(`${head.join('\r\n')}\r\n\r\n${text}`)
  return socket
}

/** Everything that arrives until the server ends the answer: the head, and the body. */
async function answerOf(socket: Socket, start = '') {
  let text = start
  for await (const part of socket) text += part
  const [head = '', ...rest] = text.split('\r\n\r\n')
  // Lengths of chunks stand on lines of their own.
  const body = rest.join('\r\n\r\n').replace(/(^|\r\n)[0-9a-f]+\r\n/g, '')
  return { head, body: body.replace(/\r\n/g, '') }
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(5)
}

const post = async ({ server }: Listening, body: object) =>
  (await server.app.inject({ method: 'POST', url: '/v1/completions', payload: body })).statusCode

/** True if a completion has ended with the status. */
async function hasCounted({ server }: Listening, status: number): Promise<boolean> {
  const scrape = parseScrape((await server.app.inject('/metrics')).body)
  const labels = `method="POST",route="/v1/completions",status="${status}"`
  return scrape.get(`moepp_http_requests_total{${labels}}`) === 1
}

t.test('events come one by one, and a reader who leaves ends the work', async t => {
  const listening = await listen(t, { maxRunning: 4, maxQueued: 0 })
  const socket = request(listening.port, LONG)
  const [first] = await once(socket, 'data')
  t.match(first, /^HTTP\/1\.1 200 OK\r\n/)
  t.match(first, /content-type: text\/event-stream; charset=utf-8\r\n/)
  t.match(first, /cache-control: no-cache\r\n/)
  t.match(first, /x-accel-buffering: no\r\n/)
  t.equal(await post(listening, { prompt: 'a', max_tokens: 1 }), 429, 'it runs')
  socket.destroy()
  await until(() => model.stats().running === 0)
  t.ok(await hasCounted(listening, 499))
  await until(async () => (await post(listening, { prompt: 'a', max_tokens: 1 })) === 200)
})

t.test('a whole answer whose reader leaves', async t => {
  const listening = await listen(t, { maxRunning: 4, maxQueued: 0 })
  const socket = request(listening.port, { ...LONG, stream: false })
  await until(() => model.stats().running > 0)
  socket.destroy()
  await until(() => model.stats().running === 0)
  t.ok(await hasCounted(listening, 499))
  await until(async () => (await post(listening, { prompt: 'a', max_tokens: 1 })) === 200)
})

t.test('a reader who leaves the queue', async t => {
  const listening = await listen(t, { maxRunning: 4, maxQueued: 1 })
  const running = request(listening.port, LONG)
  await once(running, 'data')
  const waiting = request(listening.port, { prompt: 'a', max_tokens: 1, stream: true })
  await until(async () => (await listening.server.app.inject('/ready')).statusCode === 503)
  waiting.destroy()
  await until(async () => (await listening.server.app.inject('/ready')).statusCode === 200)
  t.equal(await post(listening, { prompt: ['a', 'a'], max_tokens: 1 }), 429, 'the others still run')
  running.destroy()
})

t.test('a reader who does not read loses the connection, and its texts end', async t => {
  const listening = await listen(t, { maxUnreadBytes: 3000, maxRunning: 4, maxQueued: 0 })
  // As if no byte were ever taken by the network.
  listening.server.app.server.on('connection', socket => socket.cork())
  const socket = request(listening.port, LONG)
  socket.on('error', () => {})
  socket.resume()
  await once(socket, 'close')
  await until(() => model.stats().running === 0)
})

t.test('an answer that is not read loses the connection after the deadline', async t => {
  // Its reader takes nothing.
  const raw = new Writable({ write: () => {} })
  const context = { options: resolveServeOptions({ deadlineMs: 10 }), lifecycle: new Lifecycle() }
  const signal = requestSignal({ raw } as unknown as FastifyReply, context)
  raw.end('an answer')
  await once(raw, 'close')
  t.match(signal.reason, { details: { code: 'deadline_exceeded' } })
})

t.test('one event may be larger than the limit', async t => {
  const { port } = await listen(t, { maxUnreadBytes: 3000 })
  const echo = { prompt: 'The old man '.repeat(30), echo: true, logprobs: 5, max_tokens: 1 }
  const { body } = await answerOf(request(port, { ...echo, stream: true }))
  const [first] = eventsOf(body)
  t.ok(JSON.stringify(first).length > 10_000)
})

t.test('the deadline of a request', async t => {
  const { port, server } = await listen(t, { deadlineMs: 200 })
  const whole = await server.app.inject({
    method: 'POST',
    url: '/v1/completions',
    payload: { ...LONG, stream: false },
  })
  t.equal(whole.statusCode, 504)
  checkAnswer('ErrorResponse', whole.json())
  const { head, body } = await answerOf(request(port, LONG))
  t.match(head, /^HTTP\/1\.1 200/)
  const events = eventsOf(body)
  t.match(events.at(-1), { error: { type: 'timeout_error', code: 'deadline_exceeded' } })
  t.ok(events.length > 1)
  await until(() => model.stats().running === 0)
})

t.test('a server that closes cuts streams with a proper end', async t => {
  const { port, server } = await listen(t, { drainMs: 20 })
  const socket = request(port, LONG)
  const [first] = await once(socket, 'data')
  const rest = answerOf(socket, first)
  await server.close()
  const events = eventsOf((await rest).body)
  t.match(events.at(-1), { error: { code: 'shutting_down' } })
})

t.test('a failure in the middle of a stream', async t => {
  const own = await loadModel(books)
  const { port } = await listen(t, {}, own)
  const socket = request(port, LONG)
  const [first] = await once(socket, 'data')
  const rest = answerOf(socket, first)
  await own.close()
  const events = eventsOf((await rest).body)
  t.match(events.at(-1), { error: { type: 'service_unavailable_error' } })
})

const CHAT = { messages: [{ role: 'user', content: 'Name a river.' }], ignore_eos: true, n: 2 }

t.test('a chat begins when it is admitted, and can leave the queue', async t => {
  const own = await loadModel(chatCheckpoint(t.testdir()), { kvCacheTokens: 32_768 })
  t.teardown(() => own.close())
  const { port, server } = await listen(t, { maxRunning: 2, maxQueued: 2 }, own)
  const ask = () => request(port, { ...CHAT, stream: true }, '/v1/chat/completions')
  const running = ask()
  await once(running, 'data')
  await until(() => own.stats().running === 2)
  const waiting = ask()
  const [first] = await once(waiting, 'data')
  t.match(first, /"delta":\{"role":"assistant","content":""/, 'before its turn')
  const { head } = await answerOf(ask())
  t.match(head, /^HTTP\/1\.1 429/)
  t.match(head, /retry-after: \d+/)
  waiting.destroy()
  await until(async () => (await server.app.inject('/ready')).statusCode === 200)
  running.destroy()
  await until(() => own.stats().running === 0)
  const { body } = await answerOf(
    request(port, { ...CHAT, max_tokens: 2, stream: true }, '/v1/chat/completions'),
  )
  t.ok(eventsOf(body).length >= 4)
})

t.test('a refusal of a stream is an answer with a status', async t => {
  const { port } = await listen(t, {})
  for (const wrong of [{ prompt: [] }, { guided_regex: '([' }]) {
    const { head, body } = await answerOf(request(port, { ...LONG, ...wrong }))
    t.match(head, /^HTTP\/1\.1 400/)
    t.match(head, /content-type: application\/json/)
    checkAnswer('ErrorResponse', JSON.parse(body))
  }
})
