/** A snapshot of the cache serves if its bytes are those that the commit lists, and else never. */
import {
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { DownloadProgress } from '../../lib/hub/repository.js'
import { COMMIT } from './hub-server.js'
import {
  hubError,
  model,
  offline,
  overwrite,
  setUp,
  sha256,
  startHub,
  WEIGHTS,
  weights,
  wrong,
} from './set-up.js'

const blobName = sha256(weights)

t.test('the cache of one hub does not answer for another', async t => {
  const { hub, load, snapshot } = await setUp(t)
  const mirror = await startHub(t, model(wrong))
  const { endpoint } = mirror
  const held = () => readFileSync(join(snapshot, WEIGHTS))
  await load({ endpoint })
  t.ok(held().equals(wrong), 'the mirror lists what it sends')

  await t.rejects(offline(load), hubError(/it came from http:.*, and another hub's files are not/))
  hub.status = 503
  await t.rejects(load(), hubError(/status 503.*; the cache does not serve: it came from/))
  hub.status = undefined
  await load({ revision: COMMIT })
  t.ok(held().equals(weights), 'a commit’s name alone is no reason to take the mirror’s bytes')

  await load({ endpoint })
  await load()
  t.ok(held().equals(weights))
  await offline(load)
  await t.rejects(
    offline(() => load({ endpoint })),
    hubError(/pytorch_model\.bin is not what the commit lists/),
    'each hub has its own list',
  )
})

t.test('one hub’s address in another way of writing it', async t => {
  const { hub, load, snapshot } = await setUp(t)
  await load()
  const endpoint = `${hub.endpoint.replace('http', 'HTTP')}/x/..//`
  t.equal(await offline(() => load({ endpoint })), snapshot)
})

t.test('a damaged file of the cache is found, and fetched again', async t => {
  for (const options of [{}, { revision: COMMIT }]) {
    const { hub, load, blobs, snapshot } = await setUp(t)
    await load()
    await overwrite(join(blobs, blobName), wrong)
    await t.rejects(offline(load), hubError(/not in the cache, .* is not what the commit lists/))
    hub.status = 503
    await t.rejects(load(options), hubError(/is not what the commit lists/))
    hub.status = undefined
    hub.forget()
    await load(options)
    t.ok(readFileSync(join(snapshot, WEIGHTS)).equals(weights))
    t.strictSame([...hub.sent.keys()], [WEIGHTS], 'and nothing else is')
    await offline(load)
  }
})

t.test('a damaged copy in the snapshot', async t => {
  const { hub, load, snapshot } = await setUp(t)
  await load()
  const path = join(snapshot, WEIGHTS)
  unlinkSync(path)
  await overwrite(path, wrong)
  await t.rejects(offline(load), hubError(/is not what the commit lists/))
  hub.forget()
  await load()
  t.ok(readFileSync(path).equals(weights))
  t.equal(hub.bytesSent, 0, 'the blob was right')
  unlinkSync(path)
  await overwrite(path, weights)
  await offline(load)
  t.notOk(lstatSync(path).isSymbolicLink(), 'a right copy serves as it is')
})

t.test('files that the commit does not list', async t => {
  const { load, snapshot, blobs } = await setUp(t)
  await load()
  const planted = join(snapshot, 'model.safetensors')
  symlinkSync(join('..', '..', 'blobs', blobName), planted)
  const odd = hubError(/model\.safetensors is not a file of this commit/)
  await t.rejects(offline(load), odd)
  await load()
  t.notOk(existsSync(planted), 'a link goes')
  await offline(load)
  await overwrite(planted, wrong)
  await t.rejects(load(), odd)
  t.ok(existsSync(planted), 'a file is a person’s')
  t.ok(existsSync(join(blobs, blobName)))
})

/** The files that a load hashed. */
async function hashed(load: (options: object) => Promise<string>): Promise<string[]> {
  const files = new Set<string>()
  await load({
    onProgress: ({ stage, file }: DownloadProgress) => stage === 'verify' && files.add(file),
  })
  return [...files]
}

t.test('a file is hashed once, until it changes', async t => {
  const { load, snapshot, folder } = await setUp(t)
  t.strictSame(await hashed(load), ['config.json', WEIGHTS], 'when it comes')
  t.strictSame(await hashed(load), [])
  await offline(async () => t.strictSame(await hashed(load), []))
  const blob = realpathSync(join(snapshot, WEIGHTS))
  utimesSync(blob, new Date(), new Date())
  t.strictSame(await hashed(load), [WEIGHTS], 'another time')
  t.strictSame(await hashed(load), [])
  // The size and the time of modification can be set back, the time of the change cannot.
  const { atime, mtime } = statSync(blob)
  await overwrite(blob, wrong)
  utimesSync(blob, atime, mtime)
  await offline(async () => t.rejects(load(), hubError(/is not what the commit lists/)))
  await load()
  t.ok(readFileSync(blob).equals(weights))
  const records = join(folder, '.moepp', 'verified')
  t.equal(readdirSync(records).length, 2, 'no record of a file that was replaced')
  rmSync(records, { recursive: true })
  t.strictSame(await hashed(load), ['config.json', WEIGHTS], 'without records')
})

t.test('a file that changes while it is hashed is not taken for the one that was', async t => {
  const { load, blobs, folder } = await setUp(t)
  await load()
  rmSync(join(folder, '.moepp', 'verified'), { recursive: true })
  const blob = join(blobs, blobName)
  let changes = 0
  await load({
    onProgress: ({ stage, filesDone, filesTotal }) => {
      if (stage !== 'verify' || filesDone < 2 || filesTotal < 2 || changes++ > 0) return
      writeFileSync(blob, wrong)
    },
  })
  t.equal(changes, 1)
  t.ok(readFileSync(blob).equals(weights))
})

t.test('progress of hashing, and its end', async t => {
  const { load, folder } = await setUp(t)
  await load()
  const forget = () => rmSync(join(folder, '.moepp', 'verified'), { recursive: true })
  forget()
  const reports: DownloadProgress[] = []
  await load({ onProgress: report => report.stage === 'verify' && reports.push(report) })
  const totalBytes = weights.length + 2
  t.ok(reports.every(report => report.totalBytes === totalBytes && report.filesTotal === 2))
  t.ok(reports.every(({ doneBytes }, i) => i === 0 || doneBytes > reports[i - 1]!.doneBytes))
  t.match(reports.at(-1), { file: WEIGHTS, doneBytes: totalBytes, filesDone: 2 })
  forget()
  const abort = new AbortController()
  const aborted = load({
    signal: abort.signal,
    onProgress: ({ file }) => file === WEIGHTS && abort.abort(),
  })
  await t.rejects(aborted, { code: 'ERR_ABORTED' })
})

t.test('a cache that other programs filled has no list: names of blobs are hashes', async t => {
  const { hub, load, folder, blobs, snapshot } = await setUp(t)
  await load()
  const own = join(folder, '.moepp')
  rmSync(own, { recursive: true })
  t.strictSame(await offline(() => hashed(load)), ['config.json', WEIGHTS])
  t.strictSame(await offline(() => hashed(load)), [])
  hub.forget()
  await load({ revision: COMMIT })
  t.ok(hub.requests.length > 0, 'the hub is asked for its list, even for a commit')
  t.equal(hub.bytesSent, 0)

  rmSync(own, { recursive: true })
  await overwrite(join(blobs, blobName), wrong)
  await t.rejects(offline(load), hubError(/pytorch_model\.bin is not what the commit lists/))
  await overwrite(join(blobs, blobName), weights)
  const path = join(snapshot, WEIGHTS)
  unlinkSync(path)
  await t.rejects(offline(load), hubError(/it holds no weights/))
  copyFileSync(join(blobs, blobName), path)
  await t.rejects(
    offline(load),
    hubError(/pytorch_model\.bin is a copy, and there is no list of hashes to check it with/),
  )
  const elsewhere = join(folder, 'elsewhere')
  mkdirSync(elsewhere)
  copyFileSync(path, join(elsewhere, blobName))
  unlinkSync(path)
  symlinkSync(join(elsewhere, blobName), path)
  await t.rejects(offline(load), hubError(/is a copy/), 'a link out of the blobs is no name')
  hub.forget()
  await load()
  t.equal(hub.bytesSent, 0, 'with a list, the bytes decide')
  await offline(load)
})

t.test('a list that is damaged counts as none', async t => {
  const { load, folder } = await setUp(t)
  await load()
  const lists = join(folder, '.moepp', 'listings')
  const [name] = readdirSync(lists)
  const good = JSON.parse(readFileSync(join(lists, name!), 'utf8'))
  const outside = { ...good.files[0], path: '../../escape' }
  for (const text of [
    '',
    'null',
    '{}',
    '{"files":[null]}',
    JSON.stringify({ ...good, files: [outside] }),
  ]) {
    writeFileSync(join(lists, name!), text)
    rmSync(join(folder, '.moepp', 'verified'), { recursive: true, force: true })
    t.strictSame(await offline(() => hashed(load)), ['config.json', WEIGHTS], text)
  }
  await load()
  t.strictSame(JSON.parse(readFileSync(join(lists, name!), 'utf8')), good, 'and is written anew')
})

t.test('a cache that is whole serves where nothing can be written to it', async t => {
  const { hub, load, folder, snapshot } = await setUp(t)
  await load()
  const own = join(folder, '.moepp')
  rmSync(own, { recursive: true })
  // Stands for a read-only cache, which root could write to.
  writeFileSync(own, '')
  hub.forget()
  for (const revision of [COMMIT, 'main']) t.equal(await load({ revision }), snapshot)
  t.equal(hub.bytesSent, 0)
  t.equal(await offline(load), snapshot)
  t.ok(statSync(own).isFile())
})
