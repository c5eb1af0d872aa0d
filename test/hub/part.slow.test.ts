/** Downloads of one file at once, and those that go on with what another left. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, renameSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { HubOptions } from '../../lib/hub/repository.js'
import { root } from '../support/golden.js'
import { hubError, model, setUp, sha256, startHub, WEIGHTS, weights, wrong } from './set-up.js'

const HALF = 1_500_000
const ID = '00000000-0000-4000-8000-000000000000'
const blobName = sha256(weights)

const parts = (blobs: string) => readdirSync(blobs).filter(name => name.endsWith('.incomplete'))

/** A part may be gone by now. */
const sizeOf = (path: string) => statSync(path, { throwIfNoEntry: false })?.size ?? -1

/** Waits until a part has so many bytes, and gives back its name. */
async function partWith(blobs: string, bytes: number): Promise<string> {
  for (;;) {
    const names = await Promise.resolve()
      .then(() => parts(blobs))
      .catch(() => [])
    const name = names.find(each => sizeOf(join(blobs, each)) >= bytes)
    if (name !== undefined) return name
    await sleep(5)
  }
}

t.test('wrong bytes of one download never reach what another has verified', async t => {
  const { hub, load, blobs, snapshot } = await setUp(t)
  const evil = await startHub(t)
  evil.forged.set(WEIGHTS, Buffer.concat([weights.subarray(0, HALF), Buffer.alloc(HALF, 'wrong')]))
  let goOn = () => {}
  evil.held.set(WEIGHTS, { after: HALF, until: new Promise<void>(done => (goOn = done)) })
  const bad = load({ endpoint: evil.endpoint })
  bad.catch(() => {})
  await partWith(blobs, HALF)
  const path = await load()
  t.equal(path, snapshot)
  goOn()
  await t.rejects(bad, hubError(/has the hash .*; the download is discarded/))
  t.ok(readFileSync(join(path, WEIGHTS)).equals(weights), 'the verified file is as it was')
  t.equal(hub.sent.get(WEIGHTS), weights.length, 'nothing was taken from a part in use')
  t.strictSame(parts(blobs), [])
})

t.test('a killed process’s part is taken up by another process', async t => {
  const { hub, load, blobs, cacheDir } = await setUp(t)
  hub.held.set(WEIGHTS, { after: HALF, until: new Promise(() => {}) })
  const command = ['inspect', 'hf:acme/model', '--endpoint', hub.endpoint, '--cache-dir', cacheDir]
  const child = spawn(process.execPath, [join(root, 'dist', 'cli', 'main.js'), ...command], {
    env: { ...process.env, NODE_OPTIONS: '' },
    stdio: 'ignore',
  })
  const name = await partWith(blobs, HALF)
  t.match(
    name,
    new RegExp(`\\.[0-9a-f]{16}-${child.pid}\\.incomplete$`),
    'the name tells its writer',
  )

  const beside = await load()
  t.ok(readFileSync(join(beside, WEIGHTS)).equals(weights))
  t.equal(hub.sent.get(WEIGHTS), weights.length, 'while it lives, its part is left alone')
  t.strictSame(parts(blobs), [name])

  const exit = once(child, 'exit')
  child.kill('SIGKILL')
  await exit
  hub.forget()
  writeFileSync(join(blobs, blobName), 'damaged')
  t.ok(readFileSync(join(await load(), WEIGHTS)).equals(weights))
  t.equal(hub.sent.get(WEIGHTS), weights.length - HALF, 'only the rest was sent')
  t.strictSame(parts(blobs), [])
})

type Context = Awaited<ReturnType<typeof setUp>>

/** A download that is aborted after the first half. Gives back the name of what it left. */
async function leaveHalf({ hub, load, blobs }: Context): Promise<string> {
  const abort = new AbortController()
  hub.held.set(WEIGHTS, { after: HALF, until: new Promise(() => {}) })
  const download = load({ signal: abort.signal })
  download.catch(() => {})
  await partWith(blobs, HALF)
  abort.abort()
  await download.catch(() => {})
  hub.forget()
  return parts(blobs)[0]!
}

t.test('an aborted download leaves a part without a writer', async t => {
  const context = await setUp(t)
  const name = await leaveHalf(context)
  t.match(name, new RegExp(`^${blobName}\\.moepp-[0-9a-f-]{36}\\.incomplete$`))
  const { hub, load, blobs } = context
  t.ok(readFileSync(join(await load(), WEIGHTS)).equals(weights))
  t.equal(hub.sent.get(WEIGHTS), weights.length - HALF, 'the next one takes it')
  t.strictSame(parts(blobs), [])
})

type Load = Pick<HubOptions, 'signal' | 'onProgress'>

/**
 * Loads at once. The weights' second half comes when all loads wait for it and `between`, which
 * gets the loads, is over.
 */
async function loadTogether(
  { hub, load, blobs }: Context,
  options: readonly Load[],
  between: (loads: readonly Promise<string>[]) => Promise<unknown> = async () => {},
) {
  let goOn = () => {}
  hub.held.set(WEIGHTS, { after: HALF, until: new Promise<void>(done => (goOn = done)) })
  let arrived = 0
  const loads = options.map(({ signal, onProgress }) =>
    load({
      signal,
      onProgress: progress => {
        if (progress.file === 'config.json' && progress.filesDone === 1) arrived++
        onProgress?.(progress)
      },
    }),
  )
  const results = Promise.allSettled(loads)
  await partWith(blobs, HALF)
  while (arrived < loads.length) await sleep(5)
  await between(loads)
  goOn()
  return results
}

/** The ranges of the requests for the weights. */
const ranges = ({ hub }: Context) =>
  hub.requests.filter(({ on }) => on === 'storage').map(({ range }) => range)

t.test('loads at once in one process fetch a file once, each with its progress', async t => {
  const context = await setUp(t)
  const last = [0, 0, 0]
  const options = last.map(
    (_, i): Load => ({
      onProgress: ({ stage, file, doneBytes, filesDone }) => {
        if (stage === 'download' && file === WEIGHTS && filesDone === 1) last[i] = doneBytes
      },
    }),
  )
  const results = await loadTogether(context, options)
  const { snapshot, blobs } = context
  for (const result of results) t.match(result, { value: snapshot })
  t.strictSame(ranges(context), [undefined])
  t.strictSame(last, Array(3).fill(weights.length + 2))
  t.ok(readFileSync(join(snapshot, WEIGHTS)).equals(weights))
  t.strictSame(parts(blobs), [])
})

t.test('an abort of one load at once does not end the others', async t => {
  for (const aborted of [0, 1]) {
    const context = await setUp(t)
    const aborts = [0, 1, 2].map(() => new AbortController())
    const results = await loadTogether(context, aborts, async loads => {
      aborts[aborted]!.abort()
      await t.rejects(loads[aborted]!, { code: 'ERR_ABORTED' }, 'at once')
    })
    const { snapshot } = context
    t.equal(results.filter(({ status }) => status === 'fulfilled').length, 2)
    t.ok(readFileSync(join(snapshot, WEIGHTS)).equals(weights))
    // Only if the one that fetched is gone, another goes on with its part.
    const [first, second, ...more] = ranges(context)
    t.strictSame([first, more], [undefined, []])
    t.ok(second === undefined || second === `bytes=${HALF}-`, `${second}`)
  }
})

t.test('an error of one load’s callback does not end the others', async t => {
  const context = await setUp(t)
  const mine = new Error('mine')
  const fail: Load = {
    onProgress: ({ file, doneBytes }) => {
      if (file === WEIGHTS && doneBytes > HALF + 2) throw mine
    },
  }
  const results = await loadTogether(context, [{}, fail, {}])
  const { snapshot } = context
  const good = { status: 'fulfilled', value: snapshot }
  t.strictSame(results, [good, { status: 'rejected', reason: mine }, good])
})

t.test('the writer on another machine may be alive: its part is copied', async t => {
  const context = await setUp(t)
  const { hub, load, blobs } = context
  const name = `${blobName}.moepp-${ID}.${'f'.repeat(16)}-${process.pid}.incomplete`
  renameSync(join(blobs, await leaveHalf(context)), join(blobs, name))
  t.ok(readFileSync(join(await load(), WEIGHTS)).equals(weights))
  t.equal(hub.sent.get(WEIGHTS), weights.length - HALF, 'only the rest was sent')
  t.strictSame(parts(blobs), [name], 'and it is still there')
  t.ok(readFileSync(join(blobs, name)).equals(weights.subarray(0, HALF)), 'as it was')
})

t.test('parts of long ago are removed', async t => {
  const { load, blobs, hub } = await setUp(t)
  await load()
  const other = `${'c'.repeat(64)}.moepp-${ID}`
  const foreign = `${other}.${'f'.repeat(16)}-1.incomplete`
  const names = [`${other}.incomplete`, foreign, `${'c'.repeat(64)}.incomplete`]
  for (const name of names) {
    writeFileSync(join(blobs, name), 'part')
    utimesSync(join(blobs, name), 1, 1)
  }
  hub.files.set('generation_config.json', Buffer.from('{}\n'))
  await load()
  t.strictSame(parts(blobs), [names[2]], 'but not what another program left')
})

t.test('a part with wrong bytes costs a second download, and no error', async t => {
  const context = await setUp(t)
  const { hub, load, blobs } = context
  writeFileSync(join(blobs, await leaveHalf(context)), wrong.subarray(0, HALF))
  t.ok(readFileSync(join(await load(), WEIGHTS)).equals(weights))
  t.equal(hub.sent.get(WEIGHTS), weights.length - HALF + weights.length)
  t.strictSame(parts(blobs), [])
})

t.test('a part that is longer than the file is of no use', async t => {
  const context = await setUp(t)
  const { hub, load, blobs } = context
  writeFileSync(join(blobs, await leaveHalf(context)), Buffer.alloc(weights.length + 1))
  t.ok(readFileSync(join(await load(), WEIGHTS)).equals(weights))
  t.equal(hub.sent.get(WEIGHTS), weights.length)
  t.strictSame(parts(blobs), [])
})

t.test('a download that is aborted while it is hashed is not fetched again', async t => {
  const { hub, load, blobs } = await setUp(t)
  const abort = new AbortController()
  const onProgress = ({ stage, file }: { stage: string; file: string }) => {
    if (stage === 'verify' && file === WEIGHTS) abort.abort()
  }
  await t.rejects(load({ signal: abort.signal, onProgress }), { code: 'ERR_ABORTED' })
  t.notOk(readdirSync(blobs).includes(blobName), 'nothing that is not verified is in the cache')
  hub.forget()
  t.ok(readFileSync(join(await load(), WEIGHTS)).equals(weights))
  t.equal(hub.sent.get(WEIGHTS), undefined)
})

t.test('an empty file', async t => {
  const { load, snapshot, blobs } = await setUp(t, [
    ...model(),
    ['chat_template.jinja', Buffer.alloc(0)],
  ])
  await load()
  await load()
  t.equal(readFileSync(join(snapshot, 'chat_template.jinja')).length, 0)
  t.strictSame(parts(blobs), [])
})
