/** A hub with a small model, and an empty cache of its own. */
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { HubOptions } from '../../lib/hub/repository.js'
import { resolveSource } from '../../lib/hub/source.js'
import { COMMIT, FakeHub } from './hub-server.js'

// Nothing of this machine's settings may show.
for (const name of Object.keys(process.env)) {
  if (/^(HF_|HUGGING|XDG_CACHE)/.test(name)) delete process.env[name]
}

const root = t.testdir({})
process.env.HF_HOME = join(root, 'home')
let caches = 0

export const WEIGHTS = 'pytorch_model.bin'
export const weights = Buffer.alloc(3_000_000, 'the true weights ')
/** As many bytes, but for one the same. */
export const wrong = Buffer.from(weights)
wrong[1_234_567]! ^= 1

export function model(content: Buffer = weights): [string, Buffer][] {
  return [
    ['config.json', Buffer.from('{}')],
    [WEIGHTS, content],
  ]
}

export async function startHub(t: Test, files: Iterable<[string, Buffer]> = model()) {
  const hub = await FakeHub.start(files)
  t.teardown(() => hub.close())
  return hub
}

export async function setUp(t: Test, files: Iterable<[string, Buffer]> = model()) {
  const hub = await startHub(t, files)
  const cacheDir = join(root, `cache-${caches++}`)
  const folder = join(cacheDir, 'models--acme--model')
  const load = (options: HubOptions = {}) =>
    resolveSource('acme/model', { endpoint: hub.endpoint, cacheDir, ...options })
  return {
    ...{ hub, cacheDir, folder, load },
    blobs: join(folder, 'blobs'),
    snapshot: join(folder, 'snapshots', COMMIT),
  }
}

/** Runs `work` with HF_HUB_OFFLINE set. */
export async function offline<T>(work: () => Promise<T>): Promise<T> {
  process.env.HF_HUB_OFFLINE = '1'
  try {
    return await work()
  } finally {
    delete process.env.HF_HUB_OFFLINE
  }
}

/** Changes a file in place, and later than any moment before: file systems count time in ticks. */
export async function overwrite(path: string, bytes: Buffer): Promise<void> {
  await sleep(20)
  writeFileSync(path, bytes)
}

export const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

export const hubError = (message: RegExp) => ({ name: 'MoeppError', code: 'ERR_HUB', message })
