/** The server but for its texts: keys, limits, readiness, drain. */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:net'
import t, { type Test } from 'tap'
import { loadModel } from '../../lib/index.js'
import { type ServeOptions, serve } from '../../lib/server/index.js'

const model = await loadModel('models/books-7m', { device: 'cpu' })
t.teardown(() => model.close())

async function serverOf(t: Test, options: ServeOptions = {}) {
  const server = await serve(model, { modelName: 'books-7m', ...options })
  t.teardown(() => server.close())
  return server
}

const JSON_HEADERS = { 'content-type': 'application/json' }

t.test('wrong options name themselves and hide keys', async t => {
  const wrong = (options: object, expected: RegExp) => t.rejects(serve(model, options), expected)
  await wrong({ maxQued: 1 }, /unknown option "maxQued": did you mean maxQueued/)
  await wrong({ maxRunning: 0 }, /maxRunning: expected an integer >= 1, got 0/)
  await wrong(
    { apiKeys: ['a', 7] },
    /apiKeys\[1\]: expected a string .*, got a value of type number/,
  )
  await wrong({ apiKeys: 'secret' }, { message: /^apiKeys: expected an array/ } as never)
  for (const corsOrigins of [['a.example'], ['https://a.example/'], ['*', 'https://a.example']])
    await wrong({ corsOrigins }, /corsOrigins\[0\]: expected an origin such as .*, got "/)
  await wrong({ logLevel: 'loud' }, /logLevel: expected one of/)
})

t.test('keys: every route but health needs one', async t => {
  const { app } = await serverOf(t, { apiKeys: ['one', 'two'] })
  const status = async (url: string, authorization?: string) =>
    (await app.inject({ url, headers: authorization ? { authorization } : {} })).statusCode
  for (const url of ['/health', '/ready']) t.equal(await status(url), 200)
  for (const key of ['one', 'two']) {
    t.equal(await status('/v1/models', `Bearer ${key}`), 200)
    t.equal(await status('/v1/models', `bearer ${key}`), 200)
  }
  for (const key of [undefined, 'Bearer', 'Bearer three', 'Bearer onetwo', 'Basic one', 'one'])
    t.equal(await status('/v1/models', key), 401, `${key}`)
  const refused = await app.inject({ url: '/v1/models' })
  t.match(refused.json(), { error: { type: 'authentication_error', code: 'invalid_api_key' } })
  t.equal(refused.headers['www-authenticate'], 'Bearer')
})

t.test('the model, by its name', async t => {
  const { app } = await serverOf(t, { modelName: 'org/books 7m' })
  const list = (await app.inject('/v1/models')).json()
  t.match(list, {
    object: 'list',
    data: [{ id: 'org/books 7m', object: 'model', created: Number }],
  })
  t.same(list.data[0].capabilities, { chat: false })
  t.equal(list.data[0].max_model_len, model.contextLength)
  for (const url of ['/v1/models/org/books%207m', '/v1/models/org%2Fbooks%207m'])
    t.equal((await app.inject(url)).json().id, 'org/books 7m')
  t.match((await app.inject('/v1/models/other')).json(), { error: { code: 'model_not_found' } })
})

t.test('the tokenizer, as lm-evaluation-harness reads it', async t => {
  const { app } = await serverOf(t)
  const post = async (url: string, payload: object) => {
    const answer = await app.inject({ method: 'POST', url, payload })
    return { status: answer.statusCode, ...answer.json() }
  }
  t.match((await app.inject('/tokenizer_info')).json(), { eos_token: '</s>', bos_token: '<s>' })
  const text = 'The old man, é\n\n 日本'
  const plain = await post('/tokenize', { prompt: text, add_special_tokens: false })
  t.same(plain.tokens, model.tokenizer.encode(text, { addSpecialTokens: false }))
  const marked = await post('/tokenize', { prompt: text, return_token_strs: true })
  t.same([marked.count, marked.tokens[0], marked.token_strs[0]], [plain.count + 1, 1, '<s>'])
  t.equal((await post('/detokenize', { tokens: plain.tokens })).prompt, text)
  for (const [url, body, param] of [
    ['/tokenize', { prompt: 7 }, 'prompt'],
    ['/tokenize', { prompt: 'a', add_special_tokens: 1 }, 'add_special_tokens'],
    ['/detokenize', { tokens: [-1] }, 'tokens'],
    ['/detokenize', { tokens: [1e9] }, 'tokens'],
    ['/detokenize', { tokens: 'a' }, 'tokens'],
    ['/detokenize', { tokens: new Array(2 ** 18 + 1).fill(5) }, 'tokens'],
    ['/detokenize', [1], 'body'],
  ] as const)
    t.match(await post(url, body), { status: 400, error: { param } })
  t.equal((await post('/tokenize', { prompt: 'a', model: 'other' })).status, 404)
})

t.test('bodies are bounded in size and depth, and malformed ones are errors', async t => {
  const { app } = await serverOf(t, { maxBodyBytes: 10_000 })
  const post = async (payload: string, headers: Record<string, string> = JSON_HEADERS) => {
    const answer = await app.inject({ method: 'POST', url: '/tokenize', payload, headers })
    t.match(answer.json(), { error: { message: String, type: String } })
    return answer.statusCode
  }
  const nested = (depth: number) =>
    `{"prompt": "a", "add_special_tokens": ${'['.repeat(depth)}${']'.repeat(depth)}}`
  t.equal(await post(JSON.stringify({ prompt: 'a'.repeat(10_000) })), 413)
  t.equal(await post(nested(1000)), 400)
  t.match(
    (
      await app.inject({
        method: 'POST',
        url: '/tokenize',
        payload: nested(64),
        headers: JSON_HEADERS,
      })
    ).json(),
    { error: { message: /deeper than 64 levels/ } },
  )
  t.match(
    (
      await app.inject({
        method: 'POST',
        url: '/tokenize',
        payload: nested(63),
        headers: JSON_HEADERS,
      })
    ).json(),
    { error: { param: 'add_special_tokens' } },
    'the deepest that is read',
  )
  const brackets = JSON.stringify({ prompt: `${'[{'.repeat(100)}"\\` })
  const strings = await app.inject({
    method: 'POST',
    url: '/tokenize',
    payload: brackets,
    headers: JSON_HEADERS,
  })
  t.equal(strings.statusCode, 200, 'brackets within strings are no depth')
  for (const body of ['', '{', 'nonsense', '{"__proto__": {}}', '\ufeff{}', '{"prompt": "\\ud8"}'])
    t.equal(await post(body), 400, JSON.stringify(body))
  t.equal(await post('prompt=a', { 'content-type': 'application/x-www-form-urlencoded' }), 415)
})

t.test('every failure has OpenAI’s form', async t => {
  const { app } = await serverOf(t)
  app.get('/throws', () => {
    throw new Error('a secret')
  })
  for (const [method, url, status] of [
    ['GET', '/nothing', 404],
    ['DELETE', '/v1/models', 404],
    ['GET', '/%', 400],
    ['GET', '/throws', 500],
  ] as const) {
    const answer = await app.inject({ method, url })
    t.equal(answer.statusCode, status, url)
    t.match(answer.json(), { error: { message: String, type: String } }, url)
    t.notMatch(answer.body, /secret/)
  }
})

t.test('ids of requests come back, if they are fit for a log', async t => {
  const { app } = await serverOf(t)
  const idOf = async (id: string) =>
    (await app.inject({ url: '/health', headers: { 'x-request-id': id } })).headers['x-request-id']
  t.equal(await idOf('abc-1.2:3_4'), 'abc-1.2:3_4')
  for (const id of ['', 'a b', 'a\tb', '{"a"}', 'x'.repeat(129)])
    t.match(await idOf(id), /^[0-9a-f]{8}-[0-9a-f-]{27}$/, JSON.stringify(id))
})

t.test('other pages may read answers only where that is allowed', async t => {
  const origin = 'https://a.example'
  const allowed = async (corsOrigins: string[]) => {
    const { app } = await serverOf(t, { corsOrigins })
    const { headers } = await app.inject({ url: '/v1/models', headers: { origin } })
    if (corsOrigins.length > 0)
      t.equal(headers['access-control-expose-headers'], 'x-request-id, retry-after')
    return headers['access-control-allow-origin']
  }
  t.equal(await allowed([]), undefined)
  t.equal(await allowed([origin]), origin)
  t.equal(await allowed(['https://b.example']), undefined)
  t.equal(await allowed(['*']), '*')
})

t.test('a server that drains takes no more requests, and waits for those under way', async t => {
  const server = await serverOf(t)
  const address = await server.listen({ port: 0 })
  t.match(address, /^http:\/\/127\.0\.0\.1:\d+$/, 'this machine alone')
  t.equal((await fetch(`${address}/ready`)).status, 200)
  // A request under way: its body is still to come.
  const { port } = server.app.server.address() as AddressInfo
  const socket = connect(port, '127.0.0.1')
  const body = '{"prompt": "The old man"}'
  socket.write(
    `POST /tokenize HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n`,
  )
  await fetch(`${address}/health`)
  let closed = false
  const closing = server.close().then(() => {
    closed = true
  })
  const ready = await fetch(`${address}/ready`)
  t.same([ready.status, await ready.json()], [503, { status: 'unready', reason: 'draining' }])
  t.equal((await fetch(`${address}/health`)).status, 200, 'it still lives')
  const refused = await fetch(`${address}/v1/models`)
  t.equal(refused.status, 503)
  t.match(await refused.json(), { error: { code: 'shutting_down' } })
  t.ok(refused.headers.get('retry-after'))
  t.notOk(closed)
  const answer = once(socket, 'data')
  socket.write(body)
  t.match(String((await answer)[0]), /^HTTP\/1\.1 200 /)
  await closing
  await t.rejects(fetch(`${address}/health`))
  await server.close()
})

t.test('a client that sends no body does not hold up the end', async t => {
  const server = await serverOf(t, { drainMs: 50 })
  await server.listen({ port: 0 })
  const { port } = server.app.server.address() as AddressInfo
  const socket = connect(port, '127.0.0.1')
  socket.write(
    'POST /tokenize HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n',
  )
  await fetch(`http://127.0.0.1:${port}/health`)
  const ended = once(socket, 'close')
  await server.close()
  await ended
  t.pass('it was cut')
})

t.test('a client that sends no whole head does not hold up the end', async t => {
  const server = await serverOf(t)
  await server.listen({ port: 0 })
  const { port } = server.app.server.address() as AddressInfo
  const socket = connect(port, '127.0.0.1')
  let answer = ''
  socket.on('data', data => {
    answer += data
  })
  socket.write('GET /health HTTP/1.1\r\nhost: a\r\n')
  await fetch(`http://127.0.0.1:${port}/health`)
  const ended = once(socket, 'close')
  await server.close()
  await ended
  t.equal(answer, '', "cut before Node's own limit of time, which has an answer")
})

t.test('a server without a queue is ready while it has room', async t => {
  for (const options of [{ maxQueued: 0 }, { maxQueuedTokens: 0 }]) {
    const { app } = await serverOf(t, options)
    t.equal((await app.inject('/ready')).statusCode, 200)
  }
})

t.test('the name of an unknown field may be long', async t => {
  const { app } = await serverOf(t)
  const payload = { prompt: 'a', ['x'.repeat(2 ** 20)]: 1 }
  const answer = await app.inject({ method: 'POST', url: '/v1/completions', payload })
  t.equal(answer.statusCode, 400)
  t.equal(answer.json().error.param, 'x'.repeat(120))
})
