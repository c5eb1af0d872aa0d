/**
 * Checks that a file of the cache holds the bytes that a commit lists. A file is hashed once: a
 * record beside the cache's blobs keeps its inode, size and times, and the next load compares
 * those.
 *
 * The device's number is no part of a record: some file systems change it with each mount. Inode
 * and change time suffice: only a copy of the whole file system keeps both.
 */

import { createHash, type Hash, randomUUID } from 'node:crypto'
import { type BigIntStats, createReadStream } from 'node:fs'
import { mkdir, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { HubFile } from './api.js'
import { type Repository, SHA256 } from './repository.js'

/** Bytes hashed at a time: about a millisecond of the main thread. */
const CHUNK_BYTES = 1 << 20

/** A file, and a path where its bytes may be. */
export interface Candidate {
  readonly file: HubFile
  readonly path: string
}

/** Of each file the first candidate that holds its bytes, if one does. */
export async function findVerified(
  repository: Repository,
  candidates: readonly Candidate[],
): Promise<ReadonlyMap<HubFile, string>> {
  const found = new Map<HubFile, string>()
  const unknown: Candidate[] = []
  const seen = new Set<string>()
  for (const candidate of candidates) {
    const { file, path } = candidate
    const stamp = await stampOf(path, file)
    if (found.has(file) || stamp === undefined) continue
    const real = await realpath(path)
    if (await isRecorded(repository, file, stamp)) found.set(file, path)
    // A snapshot's link and its blob are one file.
    else if (!seen.has(real)) unknown.push(candidate)
    seen.add(real)
  }
  await hashAll(
    repository,
    unknown.filter(({ file }) => !found.has(file)),
    found,
  )
  return found
}

/** Hashes files that no record tells of, and reports how far it is. */
async function hashAll(
  repository: Repository,
  unknown: readonly Candidate[],
  found: Map<HubFile, string>,
): Promise<void> {
  const totalBytes = unknown.reduce((sum, { file }) => sum + file.size, 0)
  const counts = { totalBytes, filesTotal: unknown.length }
  let before = 0
  for (const [filesDone, { file, path }] of unknown.entries()) {
    const report = (bytes: number) =>
      repository.onProgress?.({
        stage: 'verify',
        file: file.path,
        doneBytes: before + bytes,
        ...counts,
        filesDone: filesDone + (bytes === file.size ? 1 : 0),
      })
    if (!found.has(file) && (await isVerified(repository, { file, path }, report)))
      found.set(file, path)
    before += file.size
  }
}

/** Hashes the file at `path` and records it if it is right. */
export async function isVerified(
  repository: Repository,
  { file, path }: Candidate,
  report: (bytes: number) => void,
): Promise<boolean> {
  const before = await stampOf(path, file)
  if (before === undefined) return false
  if ((await hashFile(path, file, repository.signal, report)) !== file.hash) return false
  // A file that changed meanwhile was not hashed.
  if ((await stampOf(path, file)) !== before) return false
  await record(repository, file, before)
  return true
}

/** The hash of a file's bytes, of the kind that `file` is listed with. */
export async function hashFile(
  path: string,
  file: HubFile,
  signal: AbortSignal | undefined,
  report: (bytes: number) => void,
): Promise<string> {
  const hash = SHA256.test(file.hash) ? createHash('sha256') : gitBlobHash(file.size)
  let bytes = 0
  const stream = createReadStream(path, { highWaterMark: CHUNK_BYTES, ...(signal && { signal }) })
  for await (const chunk of stream) {
    hash.update(chunk)
    bytes += chunk.length
    report(bytes)
  }
  return hash.digest('hex')
}

/** Git hashes a file's bytes behind a header with their number. */
function gitBlobHash(size: number): Hash {
  return createHash('sha1').update(`blob ${size}\0`)
}

/**
 * Inode, size and times, which change when a file does. Undefined unless it is a regular file of
 * the listed size.
 */
async function stampOf(path: string, { size }: HubFile): Promise<string | undefined> {
  const info: BigIntStats | undefined = await stat(path, { bigint: true }).catch(() => undefined)
  if (!info?.isFile() || info.size !== BigInt(size)) return undefined
  return [info.ino, info.size, info.mtimeNs, info.ctimeNs].join(' ')
}

/** One small file for each hash: the record of a replaced file goes with it. */
function recordPath({ folder }: Repository, { hash }: HubFile): string {
  return join(folder, '.moepp', 'verified', `${hash}.stamp`)
}

async function isRecorded(repository: Repository, file: HubFile, stamp: string): Promise<boolean> {
  const text = await readFile(recordPath(repository, file), 'utf8').catch(() => '')
  return text === stamp
}

/** Notes that the file at `path` was hashed, and is what is listed. */
export async function recordVerified(
  repository: Repository,
  { file, path }: Candidate,
): Promise<void> {
  const stamp = await stampOf(path, file)
  if (stamp !== undefined) await record(repository, file, stamp)
}

/** If the cache cannot be written to, the next load hashes again. */
async function record(repository: Repository, file: HubFile, stamp: string): Promise<void> {
  await replaceFile(recordPath(repository, file), stamp).catch(() => {})
}

/** Writes a small file in one step, unless it holds the text already. */
export async function replaceFile(path: string, text: string): Promise<void> {
  if ((await readFile(path, 'utf8').catch(() => undefined)) === text) return
  await mkdir(dirname(path), { recursive: true })
  const temporary = `${path}.${randomUUID()}`
  try {
    await writeFile(temporary, text)
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}
