import { spawn } from 'node:child_process'
import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { pathToFileURL } from 'node:url'
import { gzipSync } from 'node:zlib'
import t from 'tap'
import { LIMITS, listFiles, resolveCommit } from '../../lib/hub/api.js'
import { describeRepository } from '../../lib/hub/repository.js'
import { root } from '../support/golden.js'
import { COMMIT, json } from './hub-server.js'
import { hubError, model, setUp } from './set-up.js'

const FILE = { type: 'file', path: 'config.json', size: 2, oid: 'a'.repeat(40) }

t.test('answers of a wrong shape are errors of the hub', async t => {
  const { hub, load } = await setUp(t)
  const commits = [
    null,
    5,
    'text',
    [],
    {},
    { sha: null },
    { sha: 5 },
    { sha: 'main' },
    { sha: [COMMIT] },
  ]
  for (const value of commits) {
    hub.answers.set('commit', response => json(response, value))
    await t.rejects(load(), hubError(/gave no commit for main/), JSON.stringify(value))
  }
  hub.answers.clear()
  for (const value of [null, 5, 'text', {}, { length: 1 }, true]) {
    hub.answers.set('listing', response => json(response, value))
    await t.rejects(load(), hubError(/the listing is not an array/), JSON.stringify(value))
  }
  for (const entry of [null, 5, 'text', [], {}, { ...FILE, path: 5 }, { ...FILE, path: null }]) {
    hub.answers.set('listing', response => json(response, [FILE, entry]))
    await t.rejects(load(), hubError(/an entry of the listing is no object/), JSON.stringify(entry))
  }
  for (const wrong of [
    ...[{ size: '2' }, { size: -1 }, { size: 1.5 }, { size: null }, { oid: 5 }, { oid: null }],
    ...[
      { oid: '../escape' },
      { lfs: {} },
      { lfs: { oid: 'b'.repeat(40) } },
      { lfs: { oid: null } },
    ],
  ]) {
    hub.answers.set('listing', response => json(response, [{ ...FILE, ...wrong }]))
    await t.rejects(load(), hubError(/gives no size or no hash of config/), JSON.stringify(wrong))
  }
})

t.test('answers that are not JSON', async t => {
  const { hub, load } = await setUp(t)
  for (const which of ['commit', 'listing'] as const) {
    for (const text of ['', '<html>', '[', '{"sha":', '\0\0\0']) {
      hub.answers.set(which, response => response.writeHead(200).end(text))
      await t.rejects(load(), hubError(/the answer is not JSON/), `${which}: ${text}`)
    }
    hub.answers.set(which, response => response.writeHead(204).end())
    await t.rejects(load(), hubError(/the answer is not JSON/), `${which}: no content`)
    hub.answers.set(which, response =>
      response.writeHead(200, { 'Content-Encoding': 'gzip' }).end('no gzip'),
    )
    await t.rejects(load(), { code: 'ERR_HUB' }, `${which}: damaged compression`)
    hub.answers.clear()
  }
})

t.test('an answer without end ends early', async t => {
  const { hub, load } = await setUp(t)
  const blanks = Buffer.alloc(1 << 20, ' ')
  for (const which of ['commit', 'listing'] as const) {
    let sent = 0
    hub.answers.set(which, response => {
      response.writeHead(200)
      // 2 GB, unless the client goes away.
      const source = Readable.from(
        (function* () {
          for (; sent < 2048; sent++) yield blanks
        })(),
      )
      source.pipe(response)
      response.on('close', () => source.destroy())
    })
    await t.rejects(load(), hubError(/the answer has more than 4000000 bytes/), which)
    t.ok(sent < 2048, `the answer to ${which} was not read to its end`)
    hub.answers.clear()
  }
})

const gzip = gzipSync(JSON.stringify({ sha: COMMIT }))
/** With a wrong checksum. */
const damaged = Buffer.from(gzip).fill(0, gzip.length - 8, gzip.length - 4)

/** Ends with the connection, so that nothing else ends the decoder. */
function compressed(response: ServerResponse, body: Buffer, status = 200): void {
  response.useChunkedEncodingByDefault = false
  response.writeHead(status, { 'Content-Encoding': 'gzip' }).end(body)
}

t.test('a compressed answer is read, in as many bytes as another', async t => {
  const { hub, load, snapshot } = await setUp(t)
  hub.answers.set('commit', response => compressed(response, gzip))
  t.equal(await load(), snapshot)
  const large = gzipSync(Buffer.alloc(5_000_000, ' '))
  for (const which of ['commit', 'listing'] as const) {
    hub.answers.set(which, response => compressed(response, large))
    await t.rejects(load(), hubError(/the answer has more than 4000000 bytes/), which)
    hub.answers.clear()
  }
})

// Node's fetch waits for ever where damaged gzip ends with the connection.
t.test('damaged gzip comes to an end', async t => {
  const { hub, cacheDir, load, snapshot } = await setUp(t)
  hub.answers.set('commit', response => compressed(response, damaged))
  const abort = new AbortController()
  const aborted = load({ signal: abort.signal })
  setTimeout(() => abort.abort(), 50)
  await t.rejects(aborted, { code: 'ERR_ABORTED' }, 'the caller’s')
  hub.answers.clear()
  await load()
  hub.answers.set('commit', response => compressed(response, damaged))
  const { milliseconds } = LIMITS
  t.teardown(() => Object.assign(LIMITS, { milliseconds }))
  LIMITS.milliseconds = 100
  t.equal(await load(), snapshot, 'and the cache serves')
  const empty = load({ cacheDir: `${cacheDir}-empty` })
  await t.rejects(empty, hubError(/no whole answer within 0.1 s/))
})

t.test('damaged gzip does not end the process without an error', async t => {
  const { hub, cacheDir } = await setUp(t)
  hub.answers.set('commit', response => compressed(response, damaged))
  const url = (path: string) => JSON.stringify(pathToFileURL(join(root, 'dist', path)).href)
  const script = `
    import { LIMITS } from ${url('hub/api.js')}
    import { loadModel } from ${url('index.js')}
    LIMITS.milliseconds = 100
    const options = ${JSON.stringify({ endpoint: hub.endpoint, cacheDir })}
    await loadModel('hf:acme/model', options).catch(({ code }) => console.log(code))`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    env: { ...process.env, NODE_OPTIONS: '' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.equal(await text(child.stdout), 'ERR_HUB\n')
})

t.test('a failed answer is judged by its status, compressed or not', async t => {
  const { hub, cacheDir, load, snapshot } = await setUp(t)
  await load()
  const answer = (status: number) =>
    hub.answers.set('commit', response => compressed(response, damaged, status))
  answer(503)
  t.equal(await load(), snapshot, 'the cache serves')
  answer(401)
  const empty = load({ cacheDir: `${cacheDir}-empty` })
  await t.rejects(empty, hubError(/status 401: it needs an access token/))
})

t.test('a compressed file is refused: its ranges cannot be counted', async t => {
  const { hub, load } = await setUp(t)
  hub.encoding = 'gzip'
  const refused = hubError(/config\.json: the encoding is "gzip", expected identity/)
  await t.rejects(load(), refused)
  hub.encoding = 'identity'
  await load()
})

t.test('an error’s answer is not read', async t => {
  const { hub, load } = await setUp(t)
  hub.answers.set('commit', response => {
    response.writeHead(404, { 'Content-Type': 'application/json' })
    response.write('null')
  })
  await t.rejects(load(), hubError(/status 404/))
})

/** Answers with a page that leads to another, for ever. */
function endless(endpoint: string, page: (n: number) => unknown[]) {
  let n = 0
  return (response: ServerResponse) => {
    const next = `${endpoint}/api/models/acme/model/tree/${COMMIT}?cursor=${++n}`
    response.setHeader('Link', `<${next}>; rel="next"`)
    json(response, page(n))
  }
}

t.test('listings without end', async t => {
  const { hub, load } = await setUp(t)
  hub.answers.set(
    'listing',
    endless(hub.endpoint, () => []),
  )
  await t.rejects(load(), hubError(/an empty page of the listing leads to another/))
  hub.answers.set(
    'listing',
    endless(hub.endpoint, () => [FILE]),
  )
  await t.rejects(load(), hubError(/lists more than 1000 pages/))
  hub.answers.set(
    'listing',
    endless(hub.endpoint, () => Array(30_000).fill(FILE)),
  )
  await t.rejects(load(), hubError(/lists more than 100000 files/))
})

t.test('links of a listing lead to the network alone', async t => {
  const { hub, load } = await setUp(t)
  for (const link of ['file:///etc/passwd', 'data:application/json,[]', 'http://[', 'ftp://a/b']) {
    hub.answers.set('listing', response => {
      response.setHeader('Link', `<${link}>; rel="next"`)
      json(response, [FILE])
    })
    await t.rejects(load(), hubError(/links to an address that is not http or https/), link)
  }
  hub.answers.set('listing', response => {
    response.setHeader('Link', '</elsewhere>; rel="prev", <>; rel="first"')
    json(response, [FILE])
  })
  await t.rejects(load(), hubError(/it holds no weights/), 'other links are nothing')
})

t.test('an answer that does not come, or not to its end', async t => {
  const { hub, cacheDir } = await setUp(t, model())
  const options = { endpoint: hub.endpoint, cacheDir }
  const repository = await describeRepository({ name: 'acme/model', explicit: true }, options)
  const limits = { bytes: 1000, pages: 10, entries: 10, milliseconds: 100 }
  const late = { message: /no whole answer within 0.1 s/ }
  hub.answers.set('commit', () => {})
  await t.rejects(resolveCommit(repository, limits), late, 'nothing comes')
  hub.answers.set('listing', response => {
    const timer = setInterval(() => response.write(' '), 10)
    response.on('close', () => clearInterval(timer))
  })
  await t.rejects(listFiles(repository, COMMIT, limits), late, 'a byte now and then')
})

t.test('files other than weights are small', async t => {
  const { hub, load } = await setUp(t)
  for (const path of ['config.json', 'tokenizer.json', 'model.safetensors.index.json']) {
    const files = ['config.json', 'model.safetensors.index.json'].map(name => ({
      ...FILE,
      path: name,
    }))
    hub.answers.set('listing', response =>
      json(response, [...files, { ...FILE, path, size: 1e15 }]),
    )
    await t.rejects(load(), hubError(new RegExp(`${path} has 1000000000000000 bytes`)))
  }
  t.equal(hub.bytesSent, 0)
})

t.test('an address of a hub that is none', async t => {
  const { cacheDir, load } = await setUp(t)
  for (const endpoint of [
    'hub.example',
    'ftp://hub.example',
    'https://me:secret@hub.example',
    'http://',
  ])
    await t.rejects(
      load({ endpoint, cacheDir }),
      { name: 'TypeError', message: /^[^@]*$/ },
      endpoint,
    )
})
