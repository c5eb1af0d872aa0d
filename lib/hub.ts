/**
 * Where a model's files are: a local directory, or the cache of the Hugging Face hub, filled if
 * need be.
 *
 * The cache has Hugging Face's own layout (`models--OWNER--NAME/{blobs,refs,snapshots}`), so that
 * its other tools share it. The hub library lists files but downloads them anew after an
 * interruption and does not check them; files here are fetched with ranges, go on where they
 * stopped, and are checked against the hash that the hub lists.
 */

import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import {
  getHFHubCachePath,
  getRepoFolderName,
  HUB_URL,
  HubApiError,
  listFiles,
  modelInfo,
} from '@huggingface/hub'
import { isPlainFileName, parseShardIndex, WEIGHT_FILES } from './checkpoint/checkpoint.js'
import { MoeppError } from './errors.js'
import {
  COMMIT,
  download,
  type HubFile,
  hubError,
  Interrupted,
  isConnectionError,
  isTransient,
  type Repository,
  SHA256,
  sizeOf,
} from './hub-file.js'

/** How far a download from the hub is. */
export interface DownloadProgress {
  readonly stage: 'download'
  /** The file that is being fetched. */
  readonly file: string
  /** Of all files together; what the cache holds already counts as done. */
  readonly doneBytes: number
  readonly totalBytes: number
  readonly filesDone: number
  readonly filesTotal: number
}

export interface HubOptions {
  /** Branch, tag or commit. Default: main. */
  readonly revision?: string | undefined
  /** Access token. Default: HF_TOKEN, else the token that `hf auth login` stored. */
  readonly token?: string | undefined
  /** Address of the hub. Default: HF_ENDPOINT, else https://huggingface.co. */
  readonly endpoint?: string | undefined
  /** Default: HF_HUB_CACHE, else `hub` in HF_HOME, else ~/.cache/huggingface/hub. */
  readonly cacheDir?: string | undefined
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * What a model needs besides its weights; fetched first, so that a snapshot with weights is whole.
 */
const SMALL_FILES = [
  ...[
    'config.json',
    'generation_config.json',
    'tokenizer.json',
    'tokenizer.model',
    'tokenizer_config.json',
  ],
  ...['special_tokens_map.json', 'added_tokens.json', 'chat_template.jinja'],
]

const HUB_ID = /^[A-Za-z0-9][\w.-]{0,95}\/[A-Za-z0-9][\w.-]{0,95}$/
const MAX_LISTED_FILES = 100_000
const MAX_INDEX_BYTES = 100_000_000

/**
 * The directory of a model's files. An existing directory is returned as it is; `owner/name` is
 * downloaded into the cache, as far as it is not there yet. Without a connection the cache's last
 * whole snapshot serves.
 */
export async function resolveSource(source: string, options: HubOptions = {}): Promise<string> {
  if (typeof source !== 'string')
    throw new TypeError(`source: expected a directory or a hub id, got ${typeof source}`)
  const info = await stat(source).catch(() => undefined)
  if (info?.isDirectory()) return source
  if (info !== undefined) {
    throw new MoeppError(
      'ERR_NOT_FOUND',
      `${source}: a file, expected the directory that holds the model`,
    )
  }
  if (!HUB_ID.test(source) || source.includes('..')) {
    throw new MoeppError(
      'ERR_NOT_FOUND',
      `${source}: no such directory, and not a hub id (owner/name)`,
    )
  }
  const repository = await describeRepository(source, options)
  try {
    repository.signal?.throwIfAborted()
    return await downloadModel(repository, options.onProgress)
  } catch (error) {
    throw toMoeppError(error, repository)
  }
}

async function describeRepository(name: string, options: HubOptions): Promise<Repository> {
  const { env } = process
  const revision = options.revision ?? 'main'
  if (
    !/^[\w.+/-]+$/.test(revision) ||
    revision.startsWith('/') ||
    revision.split('/').includes('..')
  ) {
    throw new TypeError(
      `revision: expected a branch, tag or commit, got ${JSON.stringify(revision)}`,
    )
  }
  const endpoint = (options.endpoint ?? (env.HF_ENDPOINT || HUB_URL)).replace(/\/+$/, '')
  const token = options.token ?? (env.HF_TOKEN?.trim() || (await storedToken()))
  const cacheDir = resolve(options.cacheDir ?? getHFHubCachePath())
  return {
    name,
    endpoint,
    revision,
    folder: join(cacheDir, getRepoFolderName({ type: 'model', name })),
    fetch: hubFetch(endpoint, token, options.signal),
    signal: options.signal,
  }
}

/** The token that `hf auth login` leaves. */
async function storedToken(): Promise<string | undefined> {
  const { env } = process
  const home = env.HF_HOME ?? join(env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'huggingface')
  const text = await readFile(env.HF_TOKEN_PATH ?? join(home, 'token'), 'utf8').catch(() => '')
  return text.trim() || undefined
}

/**
 * `fetch` with the token and the signal. The library's own token option insists on the prefix of huggingface.co's
 * tokens, which other hubs do not have. The token goes to the hub's own address only: a page link
 * of the listing may point anywhere.
 */
function hubFetch(
  endpoint: string,
  token: string | undefined,
  signal: AbortSignal | undefined,
): typeof fetch {
  const { origin } = new URL(endpoint)
  return (input, init) => {
    const headers = new Headers(init?.headers)
    const url = new URL(input instanceof Request ? input.url : input)
    if (token !== undefined && url.origin === origin)
      headers.set('Authorization', `Bearer ${token}`)
    return fetch(input, { ...init, headers, ...(signal && { signal }) })
  }
}

async function downloadModel(
  repository: Repository,
  onProgress: HubOptions['onProgress'],
): Promise<string> {
  const offline = ['1', 'true', 'yes', 'on'].includes(
    (process.env.HF_HUB_OFFLINE ?? '').toLowerCase(),
  )
  if (offline || COMMIT.test(repository.revision)) {
    // A commit never changes: a whole snapshot of it needs no connection.
    const cached = await cachedSnapshot(repository)
    if (cached !== undefined) return cached
    if (offline)
      throw hubError(repository, 'not in the cache, and HF_HUB_OFFLINE forbids to fetch it')
  }
  let commit: string
  let listed: Map<string, HubFile>
  try {
    commit = await resolveCommit(repository)
    listed = await list(repository, commit)
  } catch (error) {
    const cached =
      isTransient(error) && !repository.signal?.aborted
        ? await cachedSnapshot(repository)
        : undefined
    if (cached !== undefined) return cached
    throw error
  }
  const snapshot = join(repository.folder, 'snapshots', commit)
  const files = await chooseFiles(repository, commit, listed)
  const totalBytes = files.reduce((sum, file) => sum + file.size, 0)
  let doneBytes = 0
  for (const [filesDone, file] of files.entries()) {
    const before = doneBytes
    const report = (bytes: number, done: number) => {
      doneBytes = before + bytes
      const counts = {
        doneBytes,
        totalBytes,
        filesDone: filesDone + done,
        filesTotal: files.length,
      }
      onProgress?.({ stage: 'download', file: file.path, ...counts })
    }
    await download(repository, commit, file, bytes => report(bytes, 0))
    report(file.size, 1)
  }
  // Written last: offline, the name leads to a snapshot that is whole.
  if (commit !== repository.revision) {
    const ref = join(repository.folder, 'refs', repository.revision)
    await mkdir(dirname(ref), { recursive: true })
    await writeFile(ref, commit)
  }
  return snapshot
}

async function resolveCommit({ name, endpoint, revision, fetch }: Repository): Promise<string> {
  if (COMMIT.test(revision)) return revision
  const { sha } = await modelInfo({
    name,
    revision,
    hubUrl: endpoint,
    fetch,
    additionalFields: ['sha'],
  })
  if (typeof sha === 'string' && COMMIT.test(sha)) return sha
  throw new MoeppError('ERR_HUB', `${name}: the hub at ${endpoint} gave no commit for ${revision}`)
}

/**
 * The files in the repository's first folder. Names and hashes become paths here, so odd ones are
 * left out.
 */
async function list(
  { name, endpoint, fetch }: Repository,
  commit: string,
): Promise<Map<string, HubFile>> {
  const files = new Map<string, HubFile>()
  let seen = 0
  for await (const entry of listFiles({
    repo: { type: 'model', name },
    revision: commit,
    hubUrl: endpoint,
    fetch,
  })) {
    if (++seen > MAX_LISTED_FILES)
      throw new MoeppError('ERR_HUB', `${name}: the hub lists more than ${seen} files`)
    const { type, path, size, oid, lfs } = entry
    const hash = lfs?.oid ?? oid
    if (type !== 'file' || typeof path !== 'string' || !isPlainFileName(path)) continue
    if (typeof hash !== 'string' || !(lfs ? SHA256 : COMMIT).test(hash)) continue
    if (Number.isSafeInteger(size) && size >= 0) files.set(path, { path, size, hash })
  }
  return files
}

/** The files to have, weights last. An index is fetched here, because it names the shards. */
async function chooseFiles(
  repository: Repository,
  commit: string,
  listed: ReadonlyMap<string, HubFile>,
): Promise<HubFile[]> {
  const find = (path: string) => {
    const file = listed.get(path)
    if (file === undefined) throw hubError(repository, `the repository does not hold ${path}`)
    return file
  }
  find('config.json')
  const weights = WEIGHT_FILES.find(({ name }) => listed.has(name))
  if (weights === undefined)
    throw hubError(repository, 'the repository holds no weights (safetensors or torch .bin)')
  const small = SMALL_FILES.filter(path => listed.has(path)).map(find)
  if (!weights.isIndex) return [...small, find(weights.name)]
  const index = find(weights.name)
  if (index.size > MAX_INDEX_BYTES)
    throw hubError(repository, `${index.path} takes ${index.size} bytes`)
  const path = await download(repository, commit, index, () => {})
  const shards = new Set(parseShardIndex(await readFile(path, 'utf8'), path).values())
  return [...small, index, ...[...shards].map(find)]
}

/** The snapshot that the revision last led to, if it is whole. */
async function cachedSnapshot({ folder, revision }: Repository): Promise<string | undefined> {
  const ref = COMMIT.test(revision)
    ? revision
    : await readFile(join(folder, 'refs', revision), 'utf8').catch(() => '')
  if (!COMMIT.test(ref.trim())) return undefined
  const snapshot = join(folder, 'snapshots', ref.trim())
  const has = async (path: string) => (await sizeOf(join(snapshot, path))) !== undefined
  if (!(await has('config.json'))) return undefined
  for (const { name, isIndex } of WEIGHT_FILES) {
    if (!(await has(name))) continue
    const path = join(snapshot, name)
    const shards = isIndex ? parseShardIndex(await readFile(path, 'utf8'), path).values() : []
    for (const shard of new Set(shards)) if (!(await has(shard))) return undefined
    return snapshot
  }
  return undefined
}

function toMoeppError(error: unknown, repository: Repository): unknown {
  const { name, signal } = repository
  if (signal?.aborted)
    return new MoeppError('ERR_ABORTED', `${name}: the download was aborted`, { cause: error })
  if (error instanceof MoeppError) return error
  if (error instanceof HubApiError) {
    const { statusCode } = error
    return hubError(
      repository,
      `status ${statusCode}: ${STATUS_HINTS.get(statusCode) ?? 'the request failed'}`,
      error,
    )
  }
  if (isConnectionError(error)) {
    const reason = (error.cause as NodeJS.ErrnoException | undefined)?.code ?? error.message
    return hubError(repository, `the connection failed (${reason})`, error)
  }
  if (error instanceof Interrupted) return hubError(repository, error.message, error)
  if (error instanceof SyntaxError) return hubError(repository, 'the answer is not JSON', error)
  const { code, syscall } = error as NodeJS.ErrnoException
  if (syscall !== undefined)
    return hubError(repository, `the cache cannot be used (${code}, ${syscall})`, error)
  return error
}

const STATUS_HINTS: ReadonlyMap<number, string> = new Map([
  [
    401,
    'it needs an access token (option token, or HF_TOKEN), or does not exist; no such directory exists either',
  ],
  [403, 'access is denied; a gated model wants its terms accepted on the hub first'],
  [404, 'no such model, revision or file; no such directory exists either'],
])
