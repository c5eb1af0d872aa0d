import { join } from 'node:path'
import t from 'tap'
import { parseSource, resolveSource } from '../lib/hub/source.js'
import { COMMIT, FakeHub } from './hub/hub-server.js'

const HUB = 'https://huggingface.co'
const root = t.testdir({
  models: { 'books-7m': { 'config.json': '{}' }, other: {}, file: '' },
})
const notFound = (message: RegExp) => ({ name: 'MoeppError', code: 'ERR_NOT_FOUND', message })

for (const name of Object.keys(process.env))
  if (/^(HF_|HUGGING)/.test(name)) delete process.env[name]
process.env.HF_HOME = join(root, 'home')
const before = process.cwd()
process.chdir(root)
t.teardown(() => process.chdir(before))

t.test('directories, hub ids, URLs and packages', async t => {
  const hub = (name: string, more = {}) => ({ kind: 'hub', name, explicit: true, ...more })
  for (const [source, expected] of [
    ['models/books-7m', { kind: 'directory', path: 'models/books-7m' }],
    ['./models', { kind: 'directory', path: './models' }],
    ['acme/model', { kind: 'hub', name: 'acme/model', explicit: false }],
    ['hf:acme/model', hub('acme/model')],
    ['hf:models/books-7m', hub('models/books-7m')],
    [`${HUB}/acme/model`, hub('acme/model')],
    ['http://huggingface.co/acme/model/', hub('acme/model')],
    ['https://hf.co/acme/model?library=transformers#top', hub('acme/model')],
    [`${HUB}/acme/model/tree/v1.0`, hub('acme/model', { revision: 'v1.0' })],
    [`${HUB}/acme/model/tree/refs%2Fpr%2F1`, hub('acme/model', { revision: 'refs/pr/1' })],
    ['npm:moepp-books-7m', { kind: 'npm', name: 'moepp-books-7m' }],
  ] as const) {
    t.strictSame(await parseSource(source, HUB), expected, source)
  }
  const own = 'https://hub.example/api'
  t.match(await parseSource('https://HUB.example:443/api/acme/model', own), hub('acme/model'))
  t.match(
    await parseSource('https://hub.example/api/acme/model', 'https://Hub.example:443/api'),
    hub('acme/model'),
  )
  t.match(await parseSource(`${HUB}/acme/model`, own), hub('acme/model'), 'the public name')
})

t.test('URLs that name no model', async t => {
  for (const path of [
    '',
    '/acme',
    '/datasets/acme/model',
    '/acme/model/blob/main/config.json',
    '/acme/model/tree',
    '/acme/model/tree/main/folder',
    '/acme/mod%00el',
  ]) {
    await t.rejects(
      parseSource(HUB + path, HUB),
      notFound(/OWNER\/NAME|not a page of the hub/),
      path,
    )
  }
  await t.rejects(
    parseSource('https://user:secret@elsewhere.example/acme/model?token=secret', HUB),
    { ...notFound(/^https:\/\/elsewhere\.example\/acme\/model: not a page of the hub at/) },
    'no secret is shown',
  )
  await t.rejects(
    parseSource('https://huggingface.co.evil.example/acme/model', HUB),
    notFound(/not a page/),
  )
  await t.rejects(parseSource('https://', HUB), notFound(/malformed/))
  await t.rejects(resolveSource(`${HUB}/acme/model/tree/dev`, { revision: 'main' }), {
    name: 'TypeError',
    message: 'revision: got main, but the URL says dev',
  })
})

t.test('a path that does not exist never reaches the hub', async t => {
  const hub = await FakeHub.start([])
  t.teardown(() => hub.close())
  for (const source of [
    ...['./acme/model', '../acme/model', '/acme/model', '~/model', 'acme/model/', 'acme\\model'],
    ...[
      'a/b/c',
      'C:\\model',
      'C:/model',
      'acme',
      'models/book-7m',
      'models/none',
      'model/books-7m',
      'hf:acme',
      'hf:',
    ],
    ...['hf:a/b/c', 'hf:../model', 'HF:acme/model'],
  ]) {
    await t.rejects(
      resolveSource(source, { endpoint: hub.endpoint, token: 'secret' }),
      { code: 'ERR_NOT_FOUND' },
      source,
    )
  }
  t.strictSame(hub.requests, [])
})

t.test('what was meant is named', async t => {
  await t.rejects(
    resolveSource('models/book-7m'),
    notFound(/^models\/book-7m: no such directory in models; .*; did you mean models\/books-7m\?$/),
  )
  await t.rejects(
    resolveSource('models/none'),
    notFound(/no such directory in models; on the hub it would be hf:models\/none$/),
  )
  await t.rejects(
    resolveSource('model/books-7m'),
    notFound(
      /no such directory; on the hub .* hf:model\/books-7m; did you mean models\/books-7m\?$/,
    ),
  )
  await t.rejects(resolveSource('./model'), notFound(/no such directory.*; did you mean models\?$/))
  await t.rejects(
    resolveSource(join(root, 'models', 'Books_7m')),
    notFound(/did you mean .*\/models\/books-7m\?$/),
  )
  await t.rejects(resolveSource('models/file'), notFound(/a file, expected the directory/))
})

t.test('errors of a hub say that no directory has the name', async t => {
  const hub = await FakeHub.start([])
  const { endpoint } = hub
  hub.status = 404
  const load = (source: string) =>
    resolveSource(source, { endpoint, cacheDir: join(root, 'cache') })
  const plain = (rest: string) =>
    new RegExp(`^no directory acme/model here; as a hub id: acme/model at ${endpoint}: ${rest}`)
  await t.rejects(load('acme/model'), { code: 'ERR_HUB', message: plain('status 404') })
  await t.rejects(load('hf:acme/model'), { code: 'ERR_HUB', message: /^acme\/model at http/ })
  await hub.close()
  await t.rejects(load('acme/model'), { code: 'ERR_HUB', message: plain('the connection failed') })
})

t.test('a URL’s revision is the one that is loaded', async t => {
  const hub = await FakeHub.start([
    ['config.json', Buffer.from('{}')],
    ['model.safetensors', Buffer.from('weights')],
  ])
  t.teardown(() => hub.close())
  hub.revisions.delete('main')
  hub.revisions.set('dev', COMMIT)
  const { endpoint } = hub
  const path = await resolveSource(`${endpoint}/acme/model/tree/dev`, {
    endpoint,
    cacheDir: join(root, 'urls'),
  })
  t.match(path, COMMIT)
})
