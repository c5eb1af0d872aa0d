/**
 * A model's source as a caller writes it: a directory, a hub id or URL, or an npm package.
 *
 * A directory that does not exist must never become a request: the hub would learn the name, and
 * get a stored token. So what looks like a path is one, and `hf:` is the form without doubt.
 */

import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { nearest } from '../base/option-checks.js'
import { MoeppError } from '../errors.js'
import { downloadModel } from './hub.js'
import { NPM_PREFIX, npmModelDirectory } from './npm-model.js'
import { type HubOptions, hubEndpoint } from './repository.js'

export type Source =
  | { readonly kind: 'directory'; readonly path: string }
  | {
      readonly kind: 'hub'
      readonly name: string
      /** Of a URL that names one. */
      readonly revision?: string
      /** Not plain `owner/name`, which a directory could have been meant with. */
      readonly explicit: boolean
    }
  | { readonly kind: 'npm'; readonly name: string }

const HUB_ID = /^[A-Za-z0-9][\w.-]{0,95}\/[A-Za-z0-9][\w.-]{0,95}$/
/** Addresses under which models are known, whatever hub is asked for them. */
const PUBLIC_HUBS = ['https://huggingface.co', 'https://hf.co']
const MOST_SIBLINGS = 10_000

/**
 * The directory of a model's files. An existing directory is returned as it is. `npm:NAME` is the
 * folder of an installed package. A hub's model is downloaded into the cache, unless it is there.
 *
 * @throws MoeppError ERR_NOT_FOUND, ERR_HUB, ERR_ABORTED, ERR_BAD_FILE, ERR_UNSAFE_FILE; TypeError
 *   for a source that is no string, or a wrong revision
 */
export async function resolveSource(source: string, options: HubOptions = {}): Promise<string> {
  const parsed = await parseSource(source, hubEndpoint(options))
  switch (parsed.kind) {
    case 'directory':
      return parsed.path
    case 'hub':
      return downloadModel(parsed, withRevision(options, parsed.revision))
    case 'npm':
      return npmModelDirectory(parsed.name)
  }
}

/** Reads a source; looks at directories, but asks no hub. `endpoint` is the hub's address. */
export async function parseSource(source: string, endpoint: string): Promise<Source> {
  if (typeof source !== 'string')
    throw new TypeError(`source: expected a directory or a hub id, got ${typeof source}`)
  if (source.startsWith(NPM_PREFIX)) return { kind: 'npm', name: source.slice(NPM_PREFIX.length) }
  if (source.startsWith('hf:')) {
    const name = source.slice('hf:'.length)
    if (isHubId(name)) return { kind: 'hub', name, explicit: true }
    throw notFound(source, 'expected hf:owner/name')
  }
  if (/^https?:\/\//i.test(source)) return parseUrl(source, endpoint)
  const info = await stat(source).catch(() => undefined)
  if (info?.isDirectory()) return { kind: 'directory', path: source }
  if (info !== undefined)
    throw notFound(source, 'a file, expected the directory that holds the model')
  if (!isHubId(source)) {
    const why = 'no such directory, and not a hub id (owner/name)'
    throw notFound(source, why + (await suggestion(source)))
  }
  const [owner = ''] = source.split('/')
  if (await isDirectory(owner)) {
    const why = `no such directory in ${owner}; on the hub it would be hf:${source}`
    throw notFound(source, why + (await suggestion(source)))
  }
  // A typing error in the first part, too, must not reach the hub.
  const close = await similar(owner, '.')
  const meant = close && join(close, basename(source))
  if (meant && (await isDirectory(meant))) {
    const why = `no such directory; on the hub it would be hf:${source}`
    throw notFound(source, `${why}; did you mean ${meant.replaceAll('\\', '/')}?`)
  }
  return { kind: 'hub', name: source, explicit: false }
}

/** `owner/name`, as the hub writes it; a path in no system's way of writing one. */
function isHubId(text: string): boolean {
  return HUB_ID.test(text) && !text.includes('..')
}

/** A model's page on the hub, or on the public one, with `/tree/REVISION` or without. */
function parseUrl(source: string, endpoint: string): Source {
  if (!URL.canParse(source)) throw notFound('the URL', 'it is malformed')
  const { origin, pathname } = new URL(source)
  // Neither a password nor a query is shown.
  const shown = `${origin}${pathname}`
  const secure = shown.replace(/^http:\/\/(?=(huggingface|hf)\.co\/)/, 'https://')
  const own = URL.canParse(endpoint) ? new URL(endpoint).href.replace(/\/+$/, '') : endpoint
  const hub = [own, ...PUBLIC_HUBS].find(address => secure.startsWith(`${address}/`))
  if (hub === undefined)
    throw notFound(shown, `not a page of the hub at ${endpoint}; the option endpoint names another`)
  const [owner, model, tree, ...revision] = secure
    .slice(hub.length + 1)
    .replace(/\/$/, '')
    .split('/')
  const name = `${owner}/${model ?? ''}`
  if (isHubId(name) && tree === undefined) return { kind: 'hub', name, explicit: true }
  // A name with slashes (refs/pr/1) is one segment, escaped; more segments would be a folder.
  if (isHubId(name) && tree === 'tree' && revision.length === 1 && revision[0] !== '')
    return { kind: 'hub', name, revision: decode(revision[0]!), explicit: true }
  throw notFound(shown, `expected ${hub}/OWNER/NAME or ${hub}/OWNER/NAME/tree/REVISION`)
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}

function withRevision(options: HubOptions, revision: string | undefined): HubOptions {
  if (revision === undefined) return options
  if (options.revision !== undefined && options.revision !== revision)
    throw new TypeError(`revision: got ${options.revision}, but the URL says ${revision}`)
  return { ...options, revision }
}

/** The sibling that was probably meant, as the end of a message, or nothing. */
async function suggestion(source: string): Promise<string> {
  const parent = dirname(source)
  const close = source && (await similar(basename(source), parent))
  const path = close && join(parent, close)
  return path && (await isDirectory(path)) ? `; did you mean ${path.replaceAll('\\', '/')}?` : ''
}

/** The entry of a directory whose name is most like `name`, or undefined if none is like it. */
async function similar(name: string, directory: string): Promise<string | undefined> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => [])
  const names = entries.filter(entry => !entry.isFile()).map(entry => entry.name)
  return names.length > MOST_SIBLINGS ? undefined : nearest(name, names)
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    info => info.isDirectory(),
    () => false,
  )
}

function notFound(source: string, why: string): MoeppError {
  return new MoeppError('ERR_NOT_FOUND', `${source}: ${why}`)
}
