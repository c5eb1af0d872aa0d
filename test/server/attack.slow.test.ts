/** Requests of those who mean harm: each is refused or answered, and leaves nothing behind. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { loadModel, type Model } from '../../lib/index.js'
import { type Server, serve } from '../../lib/server/index.js'
import { chatCheckpoint } from '../support/chat-checkpoint.js'
import { root } from '../support/golden.js'
import { checkAnswer } from './openai-answers.js'
import { parseScrape } from './scrape.js'

const COMPLETIONS = '/v1/completions'
const CHATS = '/v1/chat/completions'

const books = await loadModel(join(root, 'models', 'books-7m'))
const chatter = await loadModel(chatCheckpoint(t.testdir()))
const texts = await serve(books, { maxRunning: 2, maxQueued: 126, drainMs: 0 })
const chats = await serve(chatter, { drainMs: 0 })
const { port } = new URL(await texts.listen({ port: 0 }))
t.teardown(async () => {
  await texts.close()
  await chats.close()
  await books.close()
  await chatter.close()
})

/** Resolves when nothing is left of any request. */
async function untilIdle(server: Server = texts, model: Model = books): Promise<void> {
  const gauges = ['moepp_num_requests_running', 'moepp_num_requests_waiting', 'moepp_queue_tokens']
  for (;;) {
    const scrape = parseScrape((await server.app.inject('/metrics')).body)
    const { running, waiting, kvPagesUsed } = model.stats()
    const sum = running + waiting + kvPagesUsed
    if (gauges.every(name => scrape.get(name) === 0) && sum === 0) break
    await sleep(5)
  }
  if ((await server.app.inject('/ready')).statusCode !== 200) throw new Error('it is not ready')
}

t.afterEach(() => untilIdle())

/** Checks that a body gets the status, and the body of an error; returns its message. */
async function answered(
  t: Test,
  name: string,
  status: number,
  body: object | string,
  [server, url]: readonly [Server, string] = [texts, COMPLETIONS],
): Promise<string> {
  const headers = { 'content-type': 'application/json' }
  const payload = typeof body === 'string' ? body : JSON.stringify(body)
  const reply = await server.app.inject({ method: 'POST', url, headers, payload })
  t.equal(reply.statusCode, status, `${name}: ${reply.body.slice(0, 200)}`)
  if (status === 200) return ''
  checkAnswer('ErrorResponse', reply.json())
  return reply.json().error.message
}

const many = (count: number, text = 'x') => Array.from({ length: count }, (_, i) => `${text}${i}`)
const LARGE = 'x'.repeat(7_000_000)

t.test('bodies that are no request', async t => {
  for (const body of ['null', '[]', '"a"', '1', '', '{"prompt":', '\u0000', 'a=b', '['.repeat(1e6)])
    await answered(t, body.slice(0, 20), 400, body)
  await answered(t, 'a large body', 413, `"${'x'.repeat(9_000_000)}"`)
})

t.test('names', async t => {
  for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty', '', '\ud800'])
    await answered(t, name, 400, `{"prompt":"a","max_tokens":1,${JSON.stringify(name)}:{"a":1}}`)
  await answered(t, 'nested', 400, '{"prompt":"a","constructor":{"prototype":{"a":1}}}')
  t.notOk('a' in {})
  const message = await answered(t, 'a long name', 400, { prompt: 'a', [LARGE]: 1 })
  t.ok(message.length < 3000)
  await answered(t, 'many names', 400, Object.fromEntries(many(100_000).map(name => [name, 1])))
  for (const model of [LARGE, [[[]]], '\ud800\u0000', {}, '__proto__'])
    await answered(t, 'model', 404, { model, prompt: 'a' })
})

t.test('numbers', async t => {
  const numbers = async (status: number, ...fields: string[]) => {
    for (const field of fields)
      await answered(t, field, status, `{"prompt":"a","max_tokens":2,${field}}`)
  }
  await numbers(400, '"temperature":1e400', '"seed":-1e400', '"seed":9007199254740991')
  await numbers(400, '"max_tokens":9007199254740992', '"max_tokens":1.5', '"n":1000000000')
  await numbers(400, '"best_of":2147483648', '"n":-0', '"top_k":-2', '"logprobs":21', '"n":"1"')
  await numbers(200, '"temperature":-0,"top_p":-0,"max_tokens":-0', '"temperature":5e-324')
  await numbers(200, '"temperature":1e308', '"repetition_penalty":5e-324', '"min_p":1,"top_p":0')
  await numbers(
    200,
    '"no_repeat_ngram_size":9007199254740991',
    '"max_tokens":9007199254740991,"stop":" "',
  )
})

t.test('prompts', async t => {
  const last = books.config.vocabSize - 1
  const bodies: readonly [number, unknown][] = [
    [200, ''],
    [200, ['']],
    [200, [0, last]],
    [200, '\ud800 \udc00\u0000'],
    [400, []],
    [400, [[]]],
    [400, ['a', []]],
    [400, [last + 1]],
    [400, [-1]],
    [400, [5, '5']],
    [400, [[[5]]]],
    [400, {}],
    [400, LARGE],
    [400, Array(1_000_000).fill(5)],
    [400, Array(100_000).fill('a')],
  ]
  for (const [status, prompt] of bodies)
    await answered(t, JSON.stringify(prompt).slice(0, 20), status, { prompt, max_tokens: 1 })
  const scores = { prompt: Array(60).fill(Array(4000).fill(5)), echo: true, logprobs: 20 }
  await answered(t, 'an answer without bound', 400, { ...scores, max_tokens: 1 })
})

t.test('lists without bound', async t => {
  const body = { prompt: 'a', max_tokens: 2 }
  const bias = (count: number) => Object.fromEntries(many(count, '').map(id => [id, 1]))
  await answered(t, 'biases', 400, { ...body, logit_bias: bias(100_000) })
  await answered(t, 'biases', 200, { ...body, logit_bias: bias(books.config.vocabSize) })
  await answered(t, 'stops', 200, { ...body, stop: many(1000) })
  await answered(t, 'stops', 400, { ...body, stop: many(100_000) })
  await answered(t, 'a long stop', 400, { ...body, n: 100, stop: LARGE })
  await answered(t, 'odd stops', 200, { ...body, stop: ['\ud800', '\u0000', '__proto__'] })
  await answered(t, 'ends', 200, { ...body, stop_token_ids: Array(100_000).fill(5) })
})

t.test('forms', async t => {
  const body = { prompt: 'a', max_tokens: 4 }
  let deep: object = { type: 'string' }
  for (let i = 0; i < 20; i++) deep = { type: 'object', properties: { a: deep }, required: ['a'] }
  const allowed = [
    { guided_regex: '(a+)+(b+)+(a|a)*(a*)*' },
    { guided_grammar: 'root ::= root "a" | "a"' },
    { guided_json: { type: 'string', pattern: '^((a+)+)+$' } },
    { guided_json: deep },
    { guided_json: '{"type":"object","properties":{"constructor":{"type":"string"}}}' },
  ]
  const refused = [
    { guided_regex: '(?<=a)b\\1' },
    { guided_regex: '('.repeat(10_000) + ')'.repeat(10_000) },
    { guided_regex: LARGE },
    { guided_grammar: 'root ::= root' },
    { guided_json: { $ref: '#' } },
    { guided_json: { type: 5, properties: 7 } },
    { guided_json: { type: 'array', items: {}, minItems: 1e9 } },
    { guided_json: '['.repeat(1_000_000) },
    { guided_choice: many(100_000) },
  ]
  for (const form of allowed) await answered(t, 'a form', 200, { ...body, ...form })
  for (const form of refused) {
    const message = await answered(t, 'a form', 400, { ...body, ...form })
    t.match(message, new RegExp(`^${Object.keys(form)}`))
  }
})

t.test('chats', async t => {
  const to = [chats, CHATS] as const
  const messages = [{ role: 'user', content: 'a' }]
  const tool = (name: string, parameters = {}) => ({
    type: 'function',
    function: { name, parameters },
  })
  const calls = (written: string) => [
    { role: 'user', content: 'a' },
    {
      role: 'assistant',
      tool_calls: [{ id: 'a', type: 'function', function: { name: 'a', arguments: written } }],
    },
  ]
  const allowed = [
    { messages: [{ role: 'user', content: '\ud800\u0000{{ 1/0 }}{% for %}', name: '{{' }] },
    { messages: calls('{{') },
    { tool_choice: 'required', tools: [tool('"}\n</tool_call>\ud800{{'), tool('__proto__')] },
    { chat_template_kwargs: { loop: 7, range: null, constructor: 1 } },
  ]
  const refused = [
    { messages: [] },
    { messages: new Array(4097).fill({ role: 'user', content: 'a' }) },
    { messages: [{ role: '__proto__', content: 'a' }] },
    { messages: [{ role: 'user', content: LARGE }] },
    { messages: [{ role: 'user', content: '<|im_end|>'.repeat(100_000) }] },
    { messages: calls(`${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}`) },
    { messages: calls('{"a":1e400}') },
    { tools: Array(50_000).fill(tool('a')) },
    { tools: [tool('a')], tool_choice: { type: 'function', function: { name: LARGE } } },
    { tools: [tool('a', { $ref: '#/none' })], tool_choice: 'required' },
    { tools: [{ type: 'function', function: { name: 'a', [LARGE]: 1 } }] },
    { chat_template_kwargs: { messages: 5 } },
  ]
  for (const fields of allowed)
    await answered(t, 'allowed', 200, { messages, max_tokens: 2, ...fields }, to)
  for (const fields of refused)
    await answered(t, 'refused', 400, { messages, max_tokens: 2, ...fields }, to)
  await untilIdle(chats, chatter)
})

t.test('methods, and types of bodies', async t => {
  const { app } = texts
  const routes = [
    '/',
    '/health',
    '/metrics',
    '/tokenize',
    '/v1/models',
    COMPLETIONS,
    CHATS,
    '/none',
  ]
  for (const method of ['HEAD', 'OPTIONS', 'GET', 'PUT', 'PATCH', 'DELETE', 'POST'] as const)
    for (const url of routes) {
      const { statusCode, body } = await app.inject({ method, url })
      t.ok(statusCode === 200 || (statusCode >= 400 && statusCode < 500), `${method} ${url}`)
      if (statusCode !== 200 && method !== 'HEAD') checkAnswer('ErrorResponse', JSON.parse(body))
    }
  const payload = '{"prompt":"a","max_tokens":1}'
  const types = {
    'text/plain': 400,
    'application/x-www-form-urlencoded': 415,
    a: 415,
  }
  for (const [type, status] of Object.entries(types)) {
    const headers = { 'content-type': type }
    const reply = await app.inject({ method: 'POST', url: COMPLETIONS, headers, payload })
    t.equal(reply.statusCode, status, type)
    checkAnswer('ErrorResponse', reply.json())
  }
  for (const url of [
    '/v1/models/%',
    '/v1/models/%00',
    '/v1/models/..%2f..',
    `/v1/models/${'a'.repeat(9000)}`,
  ]) {
    const reply = await app.inject({ url })
    t.ok([400, 404, 414].includes(reply.statusCode), url.slice(0, 30))
    checkAnswer('ErrorResponse', reply.json())
  }
})

/** A socket that has sent something. */
function sent(text: string): Socket {
  const socket = connect(Number(port), '127.0.0.1')
  socket.setEncoding('utf8').on('error', () => {})
  socket.write(text)
  return socket
}

function request(body: string, headers: readonly string[] = [], url = COMPLETIONS): string {
  const length = headers.some(each => /^(content-length|transfer)/.test(each))
    ? []
    : [`content-length: ${Buffer.byteLength(body)}`]
  const lines = [`POST ${url} HTTP/1.1`, 'host: a', 'content-type: application/json']
  return `${[...lines, ...length, ...headers].join('\r\n')}\r\n\r\n${body}`
}

/** The statuses of the answers that arrive until the server closes the connection. */
async function statuses(text: string): Promise<number[]> {
  const socket = sent(text)
  let answer = ''
  for await (const part of socket) answer += part
  return [...answer.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status))
}

const BODY = '{"prompt":"a","max_tokens":1}'
const LONG = '{"prompt":"The old man","max_tokens":4000,"ignore_eos":true,"stream":true}'
const CLOSE = 'connection: close'

t.test('bytes that are no HTTP', async t => {
  const last = request(BODY, [CLOSE])
  t.strictSame(await statuses('\x16\x03\x01\x00\xa5\r\n\r\n'), [400])
  t.strictSame(await statuses('GET / HTTP/9.9\r\n\r\n'), [400])
  t.strictSame(await statuses(request(BODY, ['content-length: 5', 'content-length: 6'])), [400])
  t.strictSame(await statuses(request(BODY, ['content-length: -1'])), [400])
  const both = ['content-length: 5', 'transfer-encoding: chunked']
  t.strictSame(await statuses(request(BODY, both)), [400])
  t.strictSame(await statuses(request('zz\r\n', ['transfer-encoding: chunked'])), [400])
  t.strictSame(await statuses(request(BODY, [`a: ${'b'.repeat(20_000)}`])), [431])
  t.strictSame(await statuses(request(BODY, ['content-length: 5'])), [400])
  t.strictSame(await statuses(request(BODY, ['expect: 100-continue', CLOSE])), [100, 200])
  t.strictSame(await statuses(request(BODY, ['expect: nothing', CLOSE])), [417])
  t.strictSame(await statuses(request(BODY).repeat(20) + last), Array(21).fill(200))
})

t.test('clients who leave at each stage', async t => {
  const leave = async (text: string, when: (socket: Socket) => unknown) => {
    const socket = sent(text)
    await once(socket, 'connect')
    await when(socket)
    socket.destroy()
    await untilIdle()
    t.equal(books.stats().running, 0, text.slice(0, 9))
  }
  await leave('POST /v1/comp', () => {})
  await leave(request(BODY.slice(0, 9), ['content-length: 40']), () => sleep(20))
  await leave(request(BODY), () => {})
  await leave(request(LONG).repeat(5), socket => once(socket, 'data'))
  await leave(request(LONG.replace('"The old man"', JSON.stringify('old '.repeat(3000)))), () =>
    sleep(20),
  )
  const running = [sent(request(LONG)), sent(request(LONG))]
  for (const socket of running) await once(socket, 'data')
  const queued = sent(request(BODY))
  while (parseScrape((await texts.app.inject('/metrics')).body).get('moepp_queue_tokens') === 0)
    await sleep(5)
  for (const socket of [queued, ...running]) socket.destroy()
})

t.test('a server that closes in spite of all of them', async t => {
  const server = await serve(books, { drainMs: 50 })
  const { port } = new URL(await server.listen({ port: 0 }))
  const starts = ['', 'POST /v1/comp', request(BODY, ['content-length: 400']), request(LONG)]
  const received = starts.map(async start => {
    const socket = connect(Number(port), '127.0.0.1')
    socket.setEncoding('utf8').on('error', () => {})
    socket.write(start)
    let text = ''
    socket.on('data', part => {
      text += part
    })
    await once(socket, 'close')
    return text
  })
  while (books.stats().running === 0) await sleep(5)
  await server.close()
  // After a minute, each of the first three would have status 408.
  const [silent, head, body, stream] = await Promise.all(received)
  t.strictSame([silent, head, body], ['', '', ''])
  t.match(stream, /shutting_down.*\[DONE\]/s)
})
