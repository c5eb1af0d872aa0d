/** Takes a model from an untrusted hub, and checks the cache afterwards. */

import { existsSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join, sep } from 'node:path'
import timers from 'node:timers/promises'
import { MoeppError } from '../../lib/errors.js'
import { resolveSource } from '../../lib/hub/source.js'
import type { Place } from './formats.js'
import { answersFor, gitHash, REPOSITORY, sha256, splitAnswer } from './hub-answers.js'
import { fetchFrom, HUB, TOKEN } from './hub-fetch.js'
import { Finding } from './oracle.js'
import { CONFIGS, type Folder, SAFETENSORS } from './seeds.js'

/** The true content of the hub's commit. */
export const MODEL: Folder = new Map([...CONFIGS[0]!, ...SAFETENSORS[0]!])
const TRUTH = answersFor(MODEL)

/**
 * Takes a model from the answers. Afterwards each file of the cache has the hash in its name, and
 * no false file hides a true hub's.
 */
export async function readHub({ directory, files }: Place): Promise<void> {
  const cacheDir = join(directory, 'cache')
  try {
    await resolveFrom(files, cacheDir)
  } finally {
    await checkAfterwards(directory, cacheDir)
  }
}

async function checkAfterwards(root: string, cacheDir: string): Promise<void> {
  if (readdirSync(root).some(name => name !== 'cache')) throw new Finding('a file beside the cache')
  if (!existsSync(cacheDir)) return
  try {
    checkCache(cacheDir)
    await checkTruth(cacheDir)
  } finally {
    rmSync(cacheDir, { recursive: true })
  }
}

async function resolveFrom(answers: Folder, cacheDir: string): Promise<string> {
  const { fetch } = globalThis
  const { setTimeout } = timers
  globalThis.fetch = fetchFrom(answers)
  // Pauses between attempts.
  ;(timers as { setTimeout: unknown }).setTimeout = async () => {}
  syncBuiltinESMExports()
  try {
    return await resolveSource(REPOSITORY, { endpoint: HUB, token: TOKEN, cacheDir })
  } finally {
    globalThis.fetch = fetch
    timers.setTimeout = setTimeout
    syncBuiltinESMExports()
  }
}

/** Files under hashes have those hashes, and links stay within. */
function checkCache(cacheDir: string): void {
  const root = realpathSync(cacheDir) + sep
  for (const entry of readdirSync(cacheDir, { recursive: true, withFileTypes: true })) {
    if (entry.isDirectory()) continue
    const path = join(entry.parentPath, entry.name)
    if (!realpathSync(path).startsWith(root)) throw new Finding('a link leads out of the cache')
    if (/^[0-9a-f]{40}$|^[0-9a-f]{64}$/.test(entry.name)) {
      const bytes = readFileSync(path)
      const hash = entry.name.length === 64 ? sha256(bytes) : gitHash(bytes)
      if (hash !== entry.name) throw new Finding('the cache holds bytes of another hash')
    }
  }
}

async function checkTruth(cacheDir: string): Promise<void> {
  const snapshot = await resolveFrom(TRUTH, cacheDir).catch((error: unknown) => {
    if (error instanceof MoeppError) return undefined
    throw error
  })
  if (snapshot === undefined) return
  for (const name of readdirSync(snapshot)) {
    const answer = TRUTH.get(`answer ${name}`)
    if (answer && !splitAnswer(answer).body.equals(readFileSync(join(snapshot, name))))
      throw new Finding('the bytes of one hub answer for those of another')
  }
}
