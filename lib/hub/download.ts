/** Files of a commit into the cache: fetched with ranges, hashed, and linked into the snapshot. */

import { randomUUID } from 'node:crypto'
import { copyFile, mkdir, rename, rm, symlink } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { show } from '../base/json.js'
import type { HubFile } from './api.js'
import { HubStatusError, hubError, Interrupted, isTransient } from './errors.js'
import { Part, removeParts } from './part.js'
import type { Repository } from './repository.js'
import { findVerified, hashFile, isVerified, recordVerified } from './verify.js'

/** Attempts in a row without a new byte, and the pause after the first of them. */
const MAX_FAILURES = 4
const RETRY_MS = 250

/** Brings the files into the snapshot, each with the bytes that are listed for it. */
export async function download(
  repository: Repository,
  commit: string,
  files: readonly HubFile[],
): Promise<void> {
  const places = files.map(file => ({
    file,
    path: snapshotPath(repository, commit, file.path),
    blob: join(repository.folder, 'blobs', file.hash),
  }))
  const found = await findVerified(
    repository,
    places.flatMap(({ file, path, blob }) => [path, blob].map(at => ({ file, path: at }))),
  )
  const totalBytes = files.reduce((sum, { size }) => sum + size, 0)
  const counts = { totalBytes, filesTotal: files.length }
  let before = 0
  for (const [filesDone, { file, path, blob }] of places.entries()) {
    const report = (bytes: number, done = 0) =>
      repository.onProgress?.({
        stage: 'download',
        file: file.path,
        doneBytes: before + bytes,
        ...counts,
        filesDone: filesDone + done,
      })
    if (!found.has(file)) await downloadOnce({ repository, commit, file, blob, report })
    if (found.get(file) !== path) await linkFile(blob, path)
    report(file.size, 1)
    before += file.size
  }
}

export function snapshotPath({ folder }: Repository, commit: string, path: string): string {
  return join(folder, 'snapshots', commit, path)
}

/** Puts a link at `path` in one step, so that another process sees the old one or the new one. */
async function linkFile(blob: string, path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const temporary = `${path}.${randomUUID()}`
  try {
    // Relative, so that the cache may be moved.
    await symlink(relative(dirname(path), blob), temporary)
    await rename(temporary, path)
  } catch {
    // A copy serves if links are not allowed (Windows), or cannot be followed (Wine). It must not
    // go through a link that was made.
    await rm(temporary, { force: true })
    await copyFile(blob, temporary)
    await rename(temporary, path)
  }
}

/** One file of a commit, on its way to a blob. */
interface Transfer {
  readonly repository: Repository
  readonly commit: string
  readonly file: HubFile
  readonly blob: string
  /** Takes the bytes that are there. */
  readonly report: (bytes: number) => void
}

/** A transfer that runs in this process, and the reports of others who wait for it. */
interface Running {
  readonly done: Promise<void>
  readonly reports: Set<Transfer['report']>
}

/** By hub and blob. */
const running = new Map<string, Running>()

/** A file that another call fetches is waited for. If that call fails, this one goes on. */
async function downloadOnce(transfer: Transfer): Promise<void> {
  const { repository, blob, report } = transfer
  const key = `${repository.endpoint} ${blob}`
  for (let other = running.get(key); other !== undefined; other = running.get(key))
    if (await isFetchedBy(other, transfer)) return
  const reports = new Set([report])
  const reportAll = (bytes: number) => {
    for (const each of reports) each(bytes)
  }
  const done = downloadBlob({ ...transfer, report: reportAll }).finally(() => running.delete(key))
  running.set(key, { done, reports })
  await done
}

/** Waits for another call's transfer. False if it fails. An error of `report` is this call's. */
async function isFetchedBy(
  { done, reports }: Running,
  { repository: { signal }, report }: Transfer,
): Promise<boolean> {
  signal?.throwIfAborted()
  let abort = () => {}
  let tryReport = report
  const failed = new Promise<never>((_, reject) => {
    abort = () => reject(signal?.reason)
    tryReport = bytes => {
      try {
        report(bytes)
      } catch (error) {
        reject(error)
      }
    }
  })
  const fetched = done.then(
    () => true,
    () => false,
  )
  reports.add(tryReport)
  signal?.addEventListener('abort', abort)
  try {
    return await Promise.race([failed, fetched])
  } finally {
    reports.delete(tryReport)
    signal?.removeEventListener('abort', abort)
  }
}

async function downloadBlob(transfer: Transfer): Promise<void> {
  const { repository, file, blob } = transfer
  await mkdir(dirname(blob), { recursive: true })
  for (let resume = true; ; resume = false) {
    const part = await Part.take(blob, file.size, resume)
    const resumed = part.length > 0
    try {
      await fill(transfer, part)
      await part.finish()
      // This hashes the file itself, not the bytes as they arrived.
      const hash = await hashPart(repository, file, part)
      if (hash === file.hash) {
        await moveToBlob(repository, file, part, blob)
        return
      }
      await part.discard()
      // The rest of an earlier download may be wrong: try once more without it.
      if (resumed) continue
      throw hubError(
        repository,
        `${file.path} has the hash ${hash}, the hub lists ${file.hash}; the download is discarded`,
      )
    } finally {
      await part.release()
    }
  }
}

function hashPart(repository: Repository, file: HubFile, { path }: Part): Promise<string> {
  const { signal, onProgress } = repository
  return hashFile(path, file, signal, doneBytes =>
    onProgress?.({
      stage: 'verify',
      file: file.path,
      doneBytes,
      totalBytes: file.size,
      filesDone: doneBytes === file.size ? 1 : 0,
      filesTotal: 1,
    }),
  )
}

async function moveToBlob(
  repository: Repository,
  file: HubFile,
  part: Part,
  blob: string,
): Promise<void> {
  try {
    await part.moveTo(blob)
    await recordVerified(repository, { file, path: blob })
  } catch (error) {
    // Windows keeps a file that is in use: another process fetched the same one, and was first.
    if (!(await isVerified(repository, { file, path: blob }, () => {}))) throw error
    await part.discard()
  }
  await removeParts(blob)
}

/** Tries until the part is whole; gives up after attempts in a row that brought nothing. */
async function fill(transfer: Transfer, part: Part): Promise<void> {
  const { repository, file } = transfer
  for (let failures = 0; part.length < file.size; ) {
    const before = part.length
    try {
      await fetchRest(transfer, part)
    } catch (error) {
      if (!isTransient(error) || repository.signal?.aborted) throw error
      failures = part.length > before ? 1 : failures + 1
      if (failures === MAX_FAILURES) throw error
      await sleep(RETRY_MS * 2 ** (failures - 1), undefined, { signal: repository.signal })
    }
  }
}

/** One request for the missing bytes of a file. */
async function fetchRest(
  { repository, commit, file, report }: Transfer,
  part: Part,
): Promise<void> {
  const start = part.length
  const { endpoint, name } = repository
  const url = `${endpoint}/${name}/resolve/${commit}/${encodeURIComponent(file.path)}`
  const headers = new Headers()
  if (start > 0) headers.set('Range', `bytes=${start}-`)
  const response = await repository.fetch(url, { headers })
  if (!response.ok || response.body === null) {
    await response.body?.cancel()
    throw new HubStatusError(response.status)
  }
  const encoding = response.headers.get('Content-Encoding') ?? 'identity'
  if (encoding !== 'identity') {
    // Compressed bytes can neither be counted nor continued.
    await response.body.cancel()
    throw hubError(repository, `${file.path}: the encoding is ${show(encoding)}, expected identity`)
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
