/** A repository on the hub and its place in the cache, from options and environment. */

import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'

/** A commit's name, and the name of a git blob: SHA-1. */
export const COMMIT = /^[0-9a-f]{40}$/
export const SHA256 = /^[0-9a-f]{64}$/

/**
 * Progress of a download from the hub, and of the check of its files.
 *
 * @example
 * ```ts
 * import { type DownloadProgress, loadModel } from 'moepp'
 *
 * const show = ({ stage, file, filesDone, filesTotal }: DownloadProgress) =>
 *   console.log(stage, file, `${filesDone} of ${filesTotal} files`)
 * const model = await loadModel('hf:Chat-UniVi/MoE-Plus-Plus-7B', {
 *   onProgress: progress => {
 *     if (progress.stage !== 'load') show(progress)
 *   },
 * })
 * ```
 */
export interface DownloadProgress {
  /**
   * 'download': files come from the hub. 'verify': files are read and hashed, each once; a load
   * that finds them unchanged since then has no such stage.
   */
  readonly stage: 'download' | 'verify'
  /** The file at hand. */
  readonly file: string
  /** Of all files of the stage together; what the cache holds counts as downloaded. */
  readonly doneBytes: number
  /** Of all files together. */
  readonly totalBytes: number
  /** Files that are complete. */
  readonly filesDone: number
  /** Files of the stage. */
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

/** A model on the hub: its id, and how sure it is that the caller meant one. */
export interface HubModel {
  readonly name: string
  /** Named in a way that no directory has: errors need not speak of directories. */
  readonly explicit: boolean
}

export interface Repository extends HubModel {
  readonly endpoint: string
  readonly revision: string
  /** Its folder in the cache. */
  readonly folder: string
  /** With the token, for the hub's own address alone, and the caller's signal. */
  readonly fetch: typeof fetch
  readonly signal: AbortSignal | undefined
  readonly onProgress: HubOptions['onProgress']
}

/** The hub's address, in one way of writing it, and without a slash at its end. */
export function hubEndpoint({ endpoint }: HubOptions): string {
  const given = endpoint ?? (process.env.HF_ENDPOINT || 'https://huggingface.co')
  return (URL.canParse(given) ? new URL(given).href : given).replace(/\/+$/, '')
}

export async function describeRepository(
  model: HubModel,
  options: HubOptions,
): Promise<Repository> {
  const { revision = 'main', signal, onProgress } = options
  if (
    !/^[\w.+/-]+$/.test(revision) ||
    revision.startsWith('/') ||
    revision.split('/').includes('..')
  ) {
    throw new TypeError(
      `revision: expected a branch, tag or commit, got ${JSON.stringify(revision)}`,
    )
  }
  const endpoint = hubEndpoint(options)
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password)
    throw new TypeError(
      'endpoint, HF_ENDPOINT: expected an http or https address, without password',
    )
  const token = options.token ?? (process.env.HF_TOKEN?.trim() || (await storedToken()))
  const folder = `models--${model.name.replace('/', '--')}`
  return {
    ...model,
    endpoint,
    revision,
    folder: join(resolve(options.cacheDir ?? cacheDirectory()), folder),
    fetch: hubFetch(endpoint, token, signal),
    signal,
    onProgress,
  }
}

export function isOffline(): boolean {
  return ['1', 'true', 'yes', 'on'].includes((process.env.HF_HUB_OFFLINE ?? '').toLowerCase())
}

function hubHome(): string {
  const { env } = process
  return env.HF_HOME ?? join(env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'huggingface')
}

function cacheDirectory(): string {
  const { env } = process
  return env.HF_HUB_CACHE ?? env.HUGGINGFACE_HUB_CACHE ?? join(hubHome(), 'hub')
}

/** The token that `hf auth login` leaves. */
async function storedToken(): Promise<string | undefined> {
  const path = process.env.HF_TOKEN_PATH ?? join(hubHome(), 'token')
  const text = await readFile(path, 'utf8').catch(() => '')
  return text.trim() || undefined
}

/** A page link of a listing may point anywhere: the token goes to the hub's own address only. */
function hubFetch(
  endpoint: string,
  token: string | undefined,
  signal: AbortSignal | undefined,
): typeof fetch {
  const { origin } = new URL(endpoint)
  return async (input, init) => {
    const headers = new Headers(init?.headers)
    const url = new URL(input instanceof Request ? input.url : input)
    if (token !== undefined && url.origin === origin)
      headers.set('Authorization', `Bearer ${token}`)
    headers.set('Accept-Encoding', 'identity')
    const signals = [signal, init?.signal].filter(each => each instanceof AbortSignal)
    return fetch(input, { ...init, headers, signal: AbortSignal.any(signals) })
  }
}
