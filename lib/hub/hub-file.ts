/**
 * One file of a hub repository into the cache: fetched with ranges, so that it goes on where it
 * stopped, and checked against the hash that the hub lists.
 */

import { createHash, type Hash, randomUUID } from 'node:crypto'
import {
  constants,
  copyFile,
  type FileHandle,
  mkdir,
  open,
  rename,
  rm,
  stat,
  symlink,
} from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { HubApiError } from '@huggingface/hub'
import { MoeppError } from '../errors.js'

export const COMMIT = /^[0-9a-f]{40}$/
export const SHA256 = /^[0-9a-f]{64}$/
/** Attempts in a row without a new byte, and the pause after the first of them. */
const MAX_FAILURES = 4
const RETRY_MS = 250

/** A repository on the hub and its place in the cache. */
export interface Repository {
  readonly name: string
  /** Named in a way that no directory has: errors need not speak of directories. */
  readonly explicit: boolean
  readonly endpoint: string
  readonly revision: string
  readonly folder: string
  readonly fetch: typeof fetch
  readonly signal: AbortSignal | undefined
}

export interface HubFile {
  readonly path: string
  readonly size: number
  /** SHA-256 of files in LFS storage, else git's blob hash (SHA-1). Names the blob in the cache. */
  readonly hash: string
}

/** A connection that ended before the file did. */
export class Interrupted extends Error {}

/** Brings one file into the cache, if it is not there, and gives back its path in the snapshot. */
export async function download(
  repository: Repository,
  commit: string,
  file: HubFile,
  report: (bytes: number) => void,
): Promise<string> {
  const path = join(repository.folder, 'snapshots', commit, file.path)
  if ((await sizeOf(path)) === file.size) return path
  const blob = join(repository.folder, 'blobs', file.hash)
  if ((await sizeOf(blob)) !== file.size) {
    await mkdir(dirname(blob), { recursive: true })
    await downloadBlob(repository, commit, file, blob, report)
  }
  await mkdir(dirname(path), { recursive: true })
  await linkFile(blob, path)
  return path
}

/** Puts a link at `path` in one step, so that another process sees the old one or the new one. */
async function linkFile(blob: string, path: string): Promise<void> {
  const temporary = `${path}.${randomUUID()}`
  // Relative, so that the cache may be moved. Where links are not allowed (Windows) a copy serves.
  await symlink(relative(dirname(path), blob), temporary).catch(() => copyFile(blob, temporary))
  await rename(temporary, path)
}

async function downloadBlob(
  repository: Repository,
  commit: string,
  file: HubFile,
  blob: string,
  report: (bytes: number) => void,
): Promise<void> {
  const partial = `${blob}.incomplete`
  if (((await sizeOf(partial)) ?? 0) > file.size) await rm(partial)
  const part = await Part.open(partial, file)
  try {
    for (let failures = 0; part.length < file.size; ) {
      const before = part.length
      try {
        await fetchRest(repository, commit, file, part, report)
      } catch (error) {
        if (!isTransient(error) || repository.signal?.aborted) throw error
        failures = part.length > before ? 1 : failures + 1
        if (failures === MAX_FAILURES) throw error
        await sleep(RETRY_MS * 2 ** (failures - 1), undefined, { signal: repository.signal })
      }
    }
  } finally {
    await part.close()
  }
  const digest = part.digest()
  if (digest !== file.hash) {
    await rm(partial, { force: true })
    throw hubError(
      repository,
      `${file.path} has the hash ${digest}, the hub lists ${file.hash}; the download is discarded`,
    )
  }
  await rename(partial, blob).catch(async error => {
    // Another process fetched the same file, and was first.
    if ((await sizeOf(blob)) !== file.size) throw error
  })
}

/** One request for what is missing of a file. */
async function fetchRest(
  repository: Repository,
  commit: string,
  file: HubFile,
  part: Part,
  report: (bytes: number) => void,
): Promise<void> {
  const start = part.length
  const url = `${repository.endpoint}/${repository.name}/resolve/${commit}/${encodeURIComponent(file.path)}`
  // Compressed bytes could neither be counted nor continued.
  const headers = { 'Accept-Encoding': 'identity', ...(start > 0 && { Range: `bytes=${start}-` }) }
  const response = await repository.fetch(url, { headers })
  if (!response.ok || response.body === null) {
    await response.body?.cancel()
    throw new HubApiError(url, response.status)
  }
  let position = 0
  if (response.status === 206) {
    position = Number(/^bytes (\d+)-/.exec(response.headers.get('Content-Range') ?? '')?.[1])
    if (position !== start)
      throw hubError(repository, `${file.path}: asked for byte ${start}, got ${position}`)
  }
  for await (const chunk of response.body) {
    // A server that ignores the range begins anew: what is there is skipped.
    const fresh = chunk.subarray(Math.min(chunk.length, Math.max(0, start - position)))
    position += chunk.length
    if (position > file.size) {
      throw hubError(
        repository,
        `${file.path}: the hub sends more than the ${file.size} bytes that it lists`,
      )
    }
    await part.write(fresh)
    report(part.length)
  }
  if (position < file.size)
    throw new Interrupted(`${file.path} ends at byte ${position} of ${file.size}`)
}

/**
 * The beginning of a file, and its hash so far. Bytes are written at their position and never taken
 * back: two processes that fetch the same file write the same bytes.
 */
class Part {
  private constructor(
    private readonly handle: FileHandle,
    private readonly hash: Hash,
    private written: number,
  ) {}

  static async open(path: string, file: HubFile): Promise<Part> {
    const handle = await open(path, constants.O_RDWR | constants.O_CREAT)
    const { size } = await handle.stat()
    const hash = SHA256.test(file.hash) ? createHash('sha256') : gitBlobHash(file.size)
    if (size > 0) {
      const written = handle.createReadStream({ start: 0, end: size - 1, autoClose: false })
      for await (const chunk of written) hash.update(chunk)
    }
    return new Part(handle, hash, size)
  }

  get length(): number {
    return this.written
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.handle.write(
        bytes,
        done,
        bytes.length - done,
        this.written + done,
      )
      done += bytesWritten
    }
    this.hash.update(bytes)
    this.written += bytes.length
  }

  digest(): string {
    return this.hash.digest('hex')
  }

  async close(): Promise<void> {
    await this.handle.close()
  }
}

/** Git hashes a file's bytes behind a header with their number. */
function gitBlobHash(size: number): Hash {
  return createHash('sha1').update(`blob ${size}\0`)
}

export async function sizeOf(path: string): Promise<number | undefined> {
  return stat(path).then(
    ({ size }) => size,
    () => undefined,
  )
}

/** Worth another attempt, or the cache: the connection failed, or the hub is overloaded. */
export function isTransient(error: unknown): boolean {
  if (error instanceof HubApiError) return error.statusCode >= 500 || error.statusCode === 429
  return error instanceof Interrupted || isConnectionError(error)
}

/** How Node's fetch says that a connection failed: at once, or while the body came. */
export function isConnectionError(error: unknown): error is TypeError {
  return error instanceof TypeError && ['fetch failed', 'terminated'].includes(error.message)
}

export function hubError(
  { name, explicit, endpoint }: Repository,
  message: string,
  cause?: unknown,
): MoeppError {
  const instead = explicit ? '' : `no directory ${name} here; as a hub id: `
  return new MoeppError('ERR_HUB', `${instead}${name} at ${endpoint}: ${message}`, { cause })
}
