import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openCheckpoint } from '../../lib/checkpoint/checkpoint.js'
import { recordModel } from '../../lib/families/record.js'
import { readModel } from '../../lib/families/registry.js'
import type { DownloadProgress, HubOptions } from '../../lib/hub/repository.js'
import { resolveSource } from '../../lib/hub/source.js'
import { BOOKS } from '../checkpoint/files.js'
import { COMMIT, FakeHub } from './hub-server.js'

const NEEDED = [
  ...[
    'config.json',
    'generation_config.json',
    'tokenizer.model',
    'tokenizer_config.json',
    'special_tokens_map.json',
  ],
  ...[
    'pytorch_model.bin.index.json',
    'pytorch_model-00001-of-00002.bin',
    'pytorch_model-00002-of-00002.bin',
  ],
].sort()
const SHARD = 'pytorch_model-00001-of-00002.bin'
const OTHER_SHARD = 'pytorch_model-00002-of-00002.bin'

const books = readdirSync(BOOKS).map((name): [string, Buffer] => [
  name,
  readFileSync(join(BOOKS, name)),
])
const neededBytes = books.reduce(
  (sum, [name, bytes]) => sum + (NEEDED.includes(name) ? bytes.length : 0),
  0,
)
const root = t.testdir({})
let caches = 0

// Nothing of this machine's settings may show.
for (const name of Object.keys(process.env)) {
  if (/^(HF_|HUGGING|XDG_CACHE)/.test(name)) delete process.env[name]
}
process.env.HF_HOME = join(root, 'home')

/** A hub with the bundled model, an empty cache, and a download of one from the other. */
async function setUp(t: Test, files: Iterable<[string, Buffer]> = books) {
  const hub = await FakeHub.start(files)
  t.teardown(() => hub.close())
  const cacheDir = join(root, `cache-${caches++}`)
  const load = (options: HubOptions = {}) =>
    resolveSource('acme/model', { endpoint: hub.endpoint, cacheDir, ...options })
  return { hub, cacheDir, load, blobs: join(cacheDir, 'models--acme--model', 'blobs') }
}

/** One small file instead of shards. */
function smallModel(): [string, Buffer][] {
  return [
    ['config.json', Buffer.from('{}')],
    ['pytorch_model.bin', Buffer.from('the weights of a very small model')],
  ]
}

const hubError = (message: RegExp) => ({ name: 'MoeppError', code: 'ERR_HUB', message })

t.test('local directories, and what only looks like one', async t => {
  t.equal(await resolveSource(BOOKS), BOOKS, 'as it is')
  const notFound = (message: RegExp) => ({ name: 'MoeppError', code: 'ERR_NOT_FOUND', message })
  await t.rejects(
    resolveSource(join(BOOKS, 'config.json')),
    notFound(/config\.json: a file, expected the directory/),
  )
  for (const source of [
    './models/none',
    '../none',
    '/none/here',
    '~/none',
    'none',
    'a/b/c',
    'a\\b',
    'a/..',
    '',
    'a/ b',
  ]) {
    await t.rejects(
      resolveSource(source),
      notFound(/no such directory, and not a hub id \(owner\/name\)/),
      source,
    )
  }
  await t.rejects(resolveSource('acme/model', { revision: '../main' }), TypeError)
})

t.test('a fresh download holds what is needed, in the layout of the hub cache', async t => {
  const { hub, cacheDir, load } = await setUp(t)
  const progress: DownloadProgress[] = []
  const path = await load({
    onProgress: report => report.stage === 'download' && progress.push(report),
  })
  t.equal(path, join(cacheDir, 'models--acme--model', 'snapshots', COMMIT))
  t.strictSame(readdirSync(path).sort(), NEEDED, 'no readme, no figures')
  for (const name of NEEDED)
    t.ok(readFileSync(join(path, name)).equals(readFileSync(join(BOOKS, name))), name)
  if (lstatSync(join(path, SHARD)).isSymbolicLink()) {
    t.match(
      readlinkSync(join(path, SHARD)).replaceAll('\\', '/'),
      /^\.\.\/\.\.\/blobs\/[0-9a-f]{64}$/,
    )
  }
  t.equal(readFileSync(join(cacheDir, 'models--acme--model', 'refs', 'main'), 'utf8'), COMMIT)
  t.equal(hub.bytesSent, neededBytes)
  recordModel(await readModel(path), await openCheckpoint(path), 'exact')

  t.match(progress.at(-1), {
    filesDone: NEEDED.length,
    filesTotal: NEEDED.length,
    doneBytes: neededBytes,
  })
  t.ok(
    progress.every(report => report.totalBytes === neededBytes && NEEDED.includes(report.file)),
    'the total is known from the start',
  )
  t.ok(
    progress.every((report, i) => i === 0 || report.doneBytes >= progress[i - 1]!.doneBytes),
    'progress never goes back',
  )
})

t.test('what is cached is not fetched again', async t => {
  const { hub, load } = await setUp(t)
  const path = await load()
  hub.forget()
  t.equal(await load(), path)
  t.equal(hub.bytesSent, 0)
  t.ok(hub.requests.length > 0, 'a branch may have moved: the hub is asked')
  hub.forget()
  t.equal(await load({ revision: COMMIT }), path)
  t.equal(hub.requests.length, 0, 'a commit never changes: the hub is not asked')
})

t.test('safetensors are preferred to .bin', async t => {
  const { hub, load } = await setUp(t, [
    ...smallModel(),
    ['model.safetensors', Buffer.from('safe')],
  ])
  t.strictSame(readdirSync(await load()).sort(), ['config.json', 'model.safetensors'])
  t.notOk(hub.sent.has('pytorch_model.bin'))
})

t.test('a connection that breaks is taken up where it broke, in the same call', async t => {
  const { hub, load } = await setUp(t)
  hub.breakAfter.set(SHARD, 1_000_000)
  const path = await load()
  const [first, second, ...more] = hub.requests
    .filter(({ url, on }) => on === 'storage' && url.endsWith(SHARD))
    .map(({ range }) => range)
  t.strictSame([first, more], [undefined, []])
  // The bytes that had arrived when the connection broke: on a busy machine fewer than were sent.
  const start = Number(/^bytes=(\d+)-$/.exec(second ?? '')?.[1])
  t.ok(start > 0 && start <= 1_000_000, `it goes on at byte ${start}`)
  t.equal(hub.bytesSent, neededBytes + 1_000_000 - start, 'no byte that arrived was sent twice')
  t.ok(readFileSync(join(path, SHARD)).equals(readFileSync(join(BOOKS, SHARD))))
})

t.test('an aborted download is taken up by the next call', async t => {
  const { hub, load, blobs } = await setUp(t)
  const abort = new AbortController()
  const onProgress = ({ file, doneBytes }: DownloadProgress) => {
    if (file === SHARD && doneBytes > 2_000_000) abort.abort()
  }
  await t.rejects(load({ signal: abort.signal, onProgress }), {
    name: 'MoeppError',
    code: 'ERR_ABORTED',
  })
  const partial = readdirSync(blobs).filter(name => name.endsWith('.incomplete'))
  t.equal(partial.length, 1)
  const kept = lstatSync(join(blobs, partial[0]!)).size
  t.ok(kept > 1_000_000, `${kept} bytes are kept`)
  hub.forget()
  const path = await load()
  t.ok(readFileSync(join(path, SHARD)).equals(readFileSync(join(BOOKS, SHARD))))
  t.equal(
    hub.sent.get(SHARD),
    readFileSync(join(BOOKS, SHARD)).length - kept,
    'only the rest was sent',
  )
  t.notOk(hub.sent.has('config.json'))
  t.strictSame(
    readdirSync(blobs).filter(name => name.endsWith('.incomplete')),
    [],
  )
})

t.test('a hub that ignores ranges', async t => {
  const { hub, load } = await setUp(t)
  hub.ignoresRanges = true
  hub.breakAfter.set(OTHER_SHARD, 500_000)
  t.ok(readFileSync(join(await load(), OTHER_SHARD)).equals(readFileSync(join(BOOKS, OTHER_SHARD))))
})

t.test('an abort before the first request', async t => {
  const { hub, load } = await setUp(t)
  await t.rejects(load({ signal: AbortSignal.abort() }), { code: 'ERR_ABORTED' })
  t.equal(hub.requests.length, 0)
})

t.test('revisions', async t => {
  const { hub, cacheDir, load } = await setUp(t, smallModel())
  hub.revisions.set('refs/pr/1', COMMIT)
  const path = await load({ revision: 'refs/pr/1' })
  t.match(path, COMMIT)
  t.ok(existsSync(join(cacheDir, 'models--acme--model', 'refs', 'refs', 'pr', '1')))
  await t.rejects(load({ revision: 'v9' }), hubError(/status 404: no such model, revision or file/))
})

t.test('tokens', async t => {
  const { hub, load } = await setUp(t, smallModel())
  hub.token = 'secret-of-a-private-hub'
  await t.rejects(load(), hubError(/status 401: it needs an access token/))
  await t.rejects(load({ token: 'wrong' }), hubError(/status 401/))
  hub.forget()
  await load({ token: hub.token })
  for (const { on, url, authorization } of hub.requests) {
    t.equal(authorization, on === 'hub' ? `Bearer ${hub.token}` : undefined, `${on} ${url}`)
  }
  t.ok(hub.requests.some(({ on }) => on === 'storage'))
})

t.test('settings from the environment', async t => {
  const { hub } = await setUp(t, smallModel())
  const set = (name: string, value: string) => {
    process.env[name] = value
    t.teardown(() => delete process.env[name])
  }
  hub.token = 'from-the-environment'
  set('HF_ENDPOINT', `${hub.endpoint}/`)
  set('HF_TOKEN', hub.token)
  const home = join(root, 'home')
  t.equal(
    await resolveSource('acme/model'),
    join(home, 'hub', 'models--acme--model', 'snapshots', COMMIT),
  )

  delete process.env.HF_TOKEN
  hub.token = 'stored'
  mkdirSync(home, { recursive: true })
  writeFileSync(join(home, 'token'), 'stored\n')
  await resolveSource('acme/model', { cacheDir: join(root, 'stored') })

  set('HF_HUB_OFFLINE', '1')
  hub.forget()
  await resolveSource('acme/model')
  t.equal(hub.requests.length, 0)
  await t.rejects(
    resolveSource('acme/other'),
    hubError(/not in the cache, and HF_HUB_OFFLINE forbids/),
  )
  process.env.HF_HUB_OFFLINE = ''
})

t.test('without a connection, or with a broken hub, the cache serves', async t => {
  const { hub, load } = await setUp(t)
  const path = await load()
  hub.status = 503
  t.equal(await load(), path)
  hub.status = undefined
  await hub.close()
  t.equal(await load(), path)
  await t.rejects(load({ revision: 'other' }), hubError(/the connection failed \(ECONNREFUSED\)/))
})

t.test('a snapshot that is not whole does not serve', async t => {
  const { hub, cacheDir, load } = await setUp(t)
  const abort = new AbortController()
  const onProgress = ({ file }: DownloadProgress) => {
    if (file === OTHER_SHARD) abort.abort()
  }
  await t.rejects(load({ signal: abort.signal, onProgress }), { code: 'ERR_ABORTED' })
  mkdirSync(join(cacheDir, 'models--acme--model', 'refs'), { recursive: true })
  writeFileSync(join(cacheDir, 'models--acme--model', 'refs', 'main'), COMMIT)
  await hub.close()
  await t.rejects(load(), hubError(/the connection failed/))
})

t.test('errors of the hub', async t => {
  const { hub, load } = await setUp(t, smallModel())
  hub.status = 403
  await t.rejects(load(), hubError(/acme\/model at http.*: status 403: access is denied/))
  hub.status = 500
  await t.rejects(load(), hubError(/status 500/))
  await t.rejects(load(), { cause: { statusCode: 500 } }, 'the cause carries the status')
  hub.status = undefined
  await t.rejects(
    resolveSource('acme/nothing', { endpoint: hub.endpoint, cacheDir: root }),
    hubError(/status 404/),
  )
  hub.revisions.set('main', '../../escape')
  await t.rejects(load(), hubError(/gave no commit for main/))
})

t.test('repositories that hold no model', async t => {
  const without = (name: string) => smallModel().filter(([path]) => path !== name)
  await t.rejects(
    (await setUp(t, without('config.json'))).load(),
    hubError(/does not hold config\.json/),
  )
  await t.rejects(
    (await setUp(t, without('pytorch_model.bin'))).load(),
    hubError(/holds no weights/),
  )
  const index = (shard: string): [string, Buffer] => [
    'pytorch_model.bin.index.json',
    Buffer.from(JSON.stringify({ weight_map: { a: shard } })),
  ]
  const missing = await setUp(t, [...without('pytorch_model.bin'), index('gone.bin')])
  await t.rejects(missing.load(), hubError(/does not hold gone\.bin/))
  const escaping = await setUp(t, [...without('pytorch_model.bin'), index('../../../gone.bin')])
  await t.rejects(escaping.load(), { code: 'ERR_UNSAFE_FILE' })
})

t.test('content that is not what the hub lists', async t => {
  const { hub, load, blobs } = await setUp(t, smallModel())
  const weights = hub.files.get('pytorch_model.bin')!
  const flipped = Buffer.from(weights)
  flipped[3]! ^= 1
  hub.forged.set('pytorch_model.bin', flipped)
  await t.rejects(
    load(),
    hubError(/pytorch_model\.bin has the hash [0-9a-f]{64}, the hub lists .* discarded/),
  )
  hub.forged.set('pytorch_model.bin', Buffer.concat([weights, weights]))
  await t.rejects(load(), hubError(/sends more than the 33 bytes that it lists/))
  hub.forged.set('pytorch_model.bin', weights.subarray(0, 10))
  await t.rejects(
    load(),
    hubError(/pytorch_model\.bin ends at byte 10 of 33|asked for byte 10|status 416/),
  )
  t.strictSame(
    readdirSync(blobs).filter(name => name.length === 64),
    [],
    'nothing wrong is in the cache',
  )
  hub.forged.clear()
  t.ok(
    readFileSync(join(await load(), 'pytorch_model.bin')).equals(weights),
    'and a good hub makes it whole',
  )
  hub.forged.set('config.json', Buffer.from('{ }'))
  const other = resolveSource('acme/model', {
    endpoint: hub.endpoint,
    cacheDir: join(root, 'small'),
  })
  await t.rejects(other, hubError(/config\.json: the hub sends more than the 2 bytes/))
  hub.forged.set('config.json', Buffer.from('[]'))
  const again = resolveSource('acme/model', {
    endpoint: hub.endpoint,
    cacheDir: join(root, 'small'),
  })
  await t.rejects(
    again,
    hubError(/config\.json has the hash [0-9a-f]{40}/),
    'small files are checked by git hash',
  )
})

t.test('two downloads of the same model at once', async t => {
  const { load } = await setUp(t)
  const [one, two] = await Promise.all([load(), load()])
  t.equal(one, two)
  for (const name of NEEDED)
    t.ok(readFileSync(join(one, name)).equals(readFileSync(join(BOOKS, name))), name)
})

t.test('an error of the progress callback is the caller’s', async t => {
  const { load } = await setUp(t, smallModel())
  const mine = new Error('mine')
  const thrown = load({
    onProgress: () => {
      throw mine
    },
  })
  t.equal(await thrown.catch(error => error), mine)
})
