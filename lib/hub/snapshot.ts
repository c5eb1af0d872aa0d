/**
 * A commit's files in the cache. The hub's listing of a commit is kept in the repository's folder.
 * A load without the hub checks the same sizes and hashes.
 */

import { createHash } from 'node:crypto'
import { lstat, readdir, readFile, realpath, stat, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { isObject } from '../base/json.js'
import { parseShardIndex, WEIGHT_FILES } from '../checkpoint/checkpoint.js'
import { type HubFile, isHubFile, type Listing } from './api.js'
import { snapshotPath } from './download.js'
import { hubError, NotCached } from './errors.js'
import { COMMIT, type Repository } from './repository.js'
import { findVerified, replaceFile } from './verify.js'

/**
 * Files that a model needs besides its weights. They come first, so a snapshot with weights is
 * whole.
 */
const SMALL_FILES = [
  ...['config.json', 'generation_config.json', 'tokenizer.json', 'tokenizer.model'],
  ...['tokenizer_config.json', 'special_tokens_map.json', 'added_tokens.json'],
  ...['chat_template.jinja', 'chat_template.json'],
]
const READ = [...SMALL_FILES, ...WEIGHT_FILES.map(({ name }) => name)]
/** Of a file that is no weights. */
const MAX_SMALL_BYTES = 100_000_000

/**
 * The files that a model needs, weights last.
 *
 * @param fetchIndex brings an index, which names the shards, and gives back its path
 * @param fail makes the error for a commit that holds no model
 */
export async function chooseFiles(
  listing: Listing,
  fetchIndex: (index: HubFile) => Promise<string>,
  fail: (message: string) => Error,
): Promise<HubFile[]> {
  const find = (path: string) => {
    const file = listing.get(path)
    if (file === undefined) throw fail(`it does not hold ${path}`)
    return file
  }
  const findSmall = (path: string) => {
    const file = find(path)
    if (file.size <= MAX_SMALL_BYTES) return file
    throw fail(`${path} has ${file.size} bytes, expected at most ${MAX_SMALL_BYTES}`)
  }
  find('config.json')
  const weights = WEIGHT_FILES.find(({ name }) => listing.has(name))
  if (weights === undefined) throw fail('it holds no weights (safetensors or torch .bin)')
  const small = SMALL_FILES.filter(path => listing.has(path)).map(findSmall)
  if (!weights.isIndex) return [...small, find(weights.name)]
  const index = findSmall(weights.name)
  const path = await fetchIndex(index)
  const shards = new Set(parseShardIndex(await readFile(path, 'utf8'), path).values())
  return [...small, index, ...[...shards].map(find)]
}

/**
 * Files that the loader would read though the commit does not list them: another hub put them
 * there, or a person. Links go, for they are a download's; a file is not moepp's to remove.
 */
export async function removeUnlisted(
  repository: Repository,
  commit: string,
  listing: Listing,
): Promise<void> {
  for (const path of await unlisted(repository, commit, listing)) {
    if ((await lstat(path)).isSymbolicLink()) await unlink(path)
    else
      throw hubError(
        repository,
        `${path} is not a file of this commit; move it elsewhere, or remove it`,
      )
  }
}

/**
 * The snapshot that the revision last led to, checked without the hub.
 *
 * @throws NotCached if it is not whole, or not what the commit lists
 */
export async function openCached(repository: Repository): Promise<string> {
  const { folder, revision } = repository
  const commit = COMMIT.test(revision)
    ? revision
    : (await readFile(join(folder, 'refs', revision), 'utf8').catch(() => '')).trim()
  if (!COMMIT.test(commit)) throw new NotCached()
  const listing = await readListing(repository, commit)
  const snapshot = join(folder, 'snapshots', commit)
  if (!listing) {
    const other = await otherHub(repository, commit)
    if (other !== undefined)
      throw new NotCached(
        `it came from ${other}, and another hub's files are not used for this one`,
      )
  }
  const listed = listing ?? (await listByBlobNames(repository, commit))
  const check = async (files: HubFile[]) => {
    const places = files.map(file => ({ file, path: join(snapshot, file.path) }))
    const found = await findVerified(repository, places)
    for (const { file, path } of places) if (!found.has(file)) throw await whyNot(file, path)
    return places[0]!.path
  }
  const fail = (message: string) => new NotCached(message)
  const files = await chooseFiles(listed, index => check([index]), fail)
  const [odd] = await unlisted(repository, commit, listed)
  if (odd !== undefined) throw new NotCached(`${odd} is not a file of this commit`)
  await check(files)
  return snapshot
}

async function whyNot({ path }: HubFile, place: string): Promise<NotCached> {
  const there = await stat(place).catch(() => undefined)
  return new NotCached(there ? `${place} is not what the commit lists` : `${path} is missing`)
}

/** Paths in the snapshot that the loader looks for, and the commit does not list. */
async function unlisted(
  repository: Repository,
  commit: string,
  listing: Listing,
): Promise<string[]> {
  const paths = READ.filter(name => !listing.has(name))
  const there = await Promise.all(
    paths.map(name => {
      const path = snapshotPath(repository, commit, name)
      return lstat(path).then(
        () => path,
        () => undefined,
      )
    }),
  )
  return there.filter(path => path !== undefined)
}

/**
 * For a cache that Python's library or an older moepp filled. A snapshot's links lead to blobs
 * whose names are the hashes of their bytes. A copy has no such name, and cannot be checked.
 */
async function listByBlobNames(repository: Repository, commit: string): Promise<Listing> {
  const { folder } = repository
  const blobs = await realpath(join(folder, 'blobs')).catch(() => undefined)
  const names = await readdir(join(folder, 'snapshots', commit)).catch(() => [])
  if (blobs === undefined || names.length === 0) throw new NotCached()
  const listing = new Map<string, HubFile>()
  for (const name of names) {
    const path = snapshotPath(repository, commit, name)
    const info = await stat(path).catch(() => undefined)
    if (!info?.isFile()) continue
    const blob = await realpath(path)
    const file = { path: name, size: info.size, hash: basename(blob) }
    if (dirname(blob) === blobs && isHubFile(file)) listing.set(name, file)
    else if (READ.includes(name) || /\.(bin|safetensors)$/.test(name))
      throw new NotCached(
        `${path} is a copy, and there is no list of hashes to check it with; ` +
          'load it once with a connection, or give the directory itself as the model',
      )
  }
  return listing
}

/**
 * Keeps this hub's list. Another hub's list of the same commit stands beside it. If the cache
 * cannot be written to, the next load asks the hub again.
 */
export async function storeListing(
  repository: Repository,
  commit: string,
  listing: Listing,
): Promise<void> {
  const { endpoint } = repository
  const text = JSON.stringify({ endpoint, files: [...listing.values()] })
  await replaceFile(listingPath(repository, commit), text).catch(() => {})
}

/** This hub's listing of the commit, if it is in the cache. */
export async function readListing(
  repository: Repository,
  commit: string,
): Promise<Listing | undefined> {
  const stored = await readStored(listingPath(repository, commit))
  if (stored?.endpoint !== repository.endpoint) return undefined
  return new Map(stored.files.map(file => [file.path, file]))
}

/** The address of a hub that listed the commit, when this one has not. */
async function otherHub(repository: Repository, commit: string): Promise<string | undefined> {
  const folder = dirname(listingPath(repository, commit))
  for (const name of await readdir(folder).catch(() => [])) {
    const stored = name.startsWith(commit) && (await readStored(join(folder, name)))
    if (stored) return stored.endpoint
  }
  return undefined
}

function listingPath({ folder, endpoint }: Repository, commit: string): string {
  const hub = createHash('sha256').update(endpoint).digest('hex').slice(0, 16)
  return join(folder, '.moepp', 'listings', `${commit}.${hub}.json`)
}

/** A damaged list counts as none. */
async function readStored(
  path: string,
): Promise<{ endpoint: string; files: HubFile[] } | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(path, 'utf8'))
    if (!isObject(value) || typeof value.endpoint !== 'string') return undefined
    const { endpoint, files } = value
    return Array.isArray(files) && files.every(isHubFile) ? { endpoint, files } : undefined
  } catch {
    return undefined
  }
}
