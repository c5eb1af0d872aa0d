/**
 * The hub's answers: the commit of a revision, and the files of a commit. A hub is not trusted:
 * answers are bounded in decoded bytes, pages, entries and time, and every value's type is checked.
 */

import { isObject } from '../base/json.js'
import { isPlainFileName } from '../checkpoint/checkpoint.js'
import { HubStatusError, hubError, Interrupted } from './errors.js'
import { COMMIT, type Repository, SHA256 } from './repository.js'

export interface HubFile {
  readonly path: string
  readonly size: number
  /** SHA-256 of files in LFS storage, else git's blob hash (SHA-1). Names the blob in the cache. */
  readonly hash: string
}

/** The files of a commit that may be fetched, by name. */
export type Listing = ReadonlyMap<string, HubFile>

/** Tests lower them. */
export const LIMITS = {
  /** Of one answer, decoded. */
  bytes: 4_000_000,
  pages: 1000,
  entries: 100_000,
  /** Of the commit's answer, and of the listing with all its pages. */
  milliseconds: 120_000,
}

/** The commit that the repository's revision leads to. */
export async function resolveCommit(repository: Repository, limits = LIMITS): Promise<string> {
  const { name, endpoint, revision } = repository
  if (COMMIT.test(revision)) return revision
  const url = `${endpoint}/api/models/${name}/revision/${encodeURIComponent(revision)}?expand=sha`
  const { value } = await withinLimit(repository, limits, end =>
    getJson(repository, url, end, limits),
  )
  const sha = isObject(value) ? value.sha : undefined
  if (typeof sha === 'string' && COMMIT.test(sha)) return sha
  throw hubError(repository, `gave no commit for ${revision}`)
}

/** The files in the first folder of a commit. */
export function listFiles(
  repository: Repository,
  commit: string,
  limits = LIMITS,
): Promise<Listing> {
  return withinLimit(repository, limits, end => listPages(repository, commit, end, limits))
}

async function listPages(
  repository: Repository,
  commit: string,
  end: AbortSignal,
  limits: typeof LIMITS,
): Promise<Listing> {
  const { name, endpoint } = repository
  const files = new Map<string, HubFile>()
  const query = 'recursive=false&expand=false'
  let url: string | undefined = `${endpoint}/api/models/${name}/tree/${commit}?${query}`
  let entries = 0
  for (let page = 0; url !== undefined; page++) {
    if (page === limits.pages) throw hubError(repository, `lists more than ${page} pages`)
    const { value, next } = await getJson(repository, url, end, limits)
    if (!Array.isArray(value)) throw hubError(repository, 'the listing is not an array')
    if (value.length === 0 && next !== undefined)
      throw hubError(repository, 'an empty page of the listing leads to another')
    entries += value.length
    if (entries > limits.entries)
      throw hubError(repository, `lists more than ${limits.entries} files`)
    for (const entry of value) {
      const file = parseEntry(repository, entry)
      if (file !== undefined) files.set(file.path, file)
    }
    url = next
  }
  return files
}

/** Names and hashes become paths here: a name that is not plain is left out. */
function parseEntry(repository: Repository, entry: unknown): HubFile | undefined {
  if (!isObject(entry) || typeof entry.path !== 'string')
    throw hubError(repository, 'an entry of the listing is no object with a path')
  const { type, path, size, oid, lfs } = entry
  if (type !== 'file' || !isPlainFileName(path)) return undefined
  const hash = isObject(lfs) ? lfs.oid : oid
  const file = { path, size, hash }
  if (isHubFile(file) && SHA256.test(file.hash) === isObject(lfs)) return file
  throw hubError(repository, `the listing gives no size or no hash of ${path}`)
}

/** True if a value from the hub or a stored listing is a file with plain name, size and hash. */
export function isHubFile(value: unknown): value is HubFile {
  if (!isObject(value)) return false
  const { path, size, hash } = value
  if (typeof path !== 'string' || !isPlainFileName(path)) return false
  if (typeof hash !== 'string' || !(SHA256.test(hash) || COMMIT.test(hash))) return false
  return typeof size === 'number' && Number.isSafeInteger(size) && size >= 0
}

/**
 * Does `work`, and tells it the end of its time. Node's fetch awaits the end of damaged gzip for
 * ever, in spite of its signal, and keeps no process alive. So the caller does not wait for `work`,
 * and a timer runs.
 */
async function withinLimit<T>(
  { signal }: Repository,
  { milliseconds }: typeof LIMITS,
  work: (end: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController()
  const { signal: end } = controller
  const late = new Interrupted(`no whole answer within ${milliseconds / 1000} s`)
  const timer = setTimeout(() => controller.abort(late), milliseconds)
  const abort = () => controller.abort(signal?.reason)
  signal?.addEventListener('abort', abort)
  const ended = new Promise<never>((_, reject) =>
    end.addEventListener('abort', () => reject(end.reason)),
  )
  try {
    return await Promise.race([ended, work(end)])
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', abort)
  }
}

/** A JSON answer, and the address of the page behind it. */
async function getJson(
  repository: Repository,
  url: string,
  end: AbortSignal,
  limits: typeof LIMITS,
): Promise<{ value: unknown; next: string | undefined }> {
  try {
    const headers = { Accept: 'application/json' }
    const response = await repository.fetch(url, { headers, signal: end })
    const text = await readBody(repository, response, limits.bytes)
    return { value: JSON.parse(text), next: nextPage(repository, response) }
  } catch (error) {
    if (error instanceof SyntaxError) throw hubError(repository, 'the answer is not JSON', error)
    throw error
  }
}

/** The decoded bytes count: a few MB of gzip may hold GBs. */
async function readBody(
  repository: Repository,
  response: Response,
  limit: number,
): Promise<string> {
  if (!response.ok) {
    await response.body?.cancel()
    throw new HubStatusError(response.status)
  }
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length
    if (bytes > limit) throw hubError(repository, `the answer has more than ${limit} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** The part of RFC 8288 that the hub uses. */
function nextPage(repository: Repository, { headers, url }: Response): string | undefined {
  const link = /<([^<>]*)>\s*;\s*rel="?next"?/.exec(headers.get('Link') ?? '')?.[1]
  if (link === undefined) return undefined
  const next = URL.canParse(link, url) ? new URL(link, url) : undefined
  if (next?.protocol === 'http:' || next?.protocol === 'https:') return next.href
  throw hubError(repository, 'the listing links to an address that is not http or https')
}
