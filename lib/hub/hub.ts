/**
 * A model of the Hugging Face hub: its files in the cache, with the bytes that the commit lists.
 *
 * The cache has Hugging Face's own layout (`models--OWNER--NAME/{blobs,refs,snapshots}`), so that
 * its other tools share it; what moepp adds is in `.moepp` beside them.
 */

import { join } from 'node:path'
import { MoeppError } from '../errors.js'
import { type HubFile, type Listing, listFiles, resolveCommit } from './api.js'
import { download, snapshotPath } from './download.js'
import { hubError, isTransient, NotCached, toMoeppError } from './errors.js'
import {
  COMMIT,
  describeRepository,
  type HubModel,
  type HubOptions,
  isOffline,
  type Repository,
} from './repository.js'
import { chooseFiles, openCached, readListing, removeUnlisted, storeListing } from './snapshot.js'
import { replaceFile } from './verify.js'

/**
 * The directory of a hub's model in the cache. Files that are not there yet are downloaded. Without
 * a connection the cache's last whole snapshot serves, after the same checks.
 *
 * @throws MoeppError ERR_HUB, ERR_ABORTED, ERR_BAD_FILE, ERR_UNSAFE_FILE; TypeError for a wrong
 *   revision or endpoint
 */
export async function downloadModel(model: HubModel, options: HubOptions): Promise<string> {
  const repository = await describeRepository(model, options)
  try {
    repository.signal?.throwIfAborted()
    if (isOffline()) return await openOffline(repository)
    return (await openCommit(repository)) ?? (await fetchModel(repository))
  } catch (error) {
    throw toMoeppError(error, repository)
  }
}

async function openOffline(repository: Repository): Promise<string> {
  try {
    return await openCached(repository)
  } catch (error) {
    if (!(error instanceof NotCached)) throw error
    const why = error.message && `; the cache does not serve: ${error.message}`
    throw hubError(repository, `not in the cache, and HF_HUB_OFFLINE forbids fetching it${why}`)
  }
}

/** A commit never changes: once this hub has listed its files, it need not be asked again. */
async function openCommit(repository: Repository): Promise<string | undefined> {
  const { revision } = repository
  if (!COMMIT.test(revision) || !(await readListing(repository, revision))) return undefined
  try {
    return await openCached(repository)
  } catch (error) {
    if (error instanceof NotCached) return undefined
    throw error
  }
}

async function fetchModel(repository: Repository): Promise<string> {
  const { folder, revision, signal } = repository
  let commit: string
  let listing: Listing
  try {
    commit = await resolveCommit(repository)
    listing = await listFiles(repository, commit)
  } catch (error) {
    if (!isTransient(error) || signal?.aborted) throw error
    return openInstead(repository, error)
  }
  await storeListing(repository, commit, listing)
  const fetchIndex = async (index: HubFile) => {
    await download({ ...repository, onProgress: undefined }, commit, [index])
    return snapshotPath(repository, commit, index.path)
  }
  const fail = (message: string) => hubError(repository, message)
  const files = await chooseFiles(listing, fetchIndex, fail)
  await download(repository, commit, files)
  await removeUnlisted(repository, commit, listing)
  // Written last: offline, the name leads to a snapshot that is whole.
  if (commit !== revision) await replaceFile(join(folder, 'refs', revision), commit)
  return join(folder, 'snapshots', commit)
}

/** The cached snapshot when the hub cannot be asked. Without one, the hub's failure is thrown. */
async function openInstead(repository: Repository, failure: unknown): Promise<string> {
  try {
    return await openCached(repository)
  } catch (error) {
    if (!(error instanceof NotCached)) throw error
    const typed = toMoeppError(failure, repository)
    if (!error.message || !(typed instanceof MoeppError)) throw failure
    const message = `${typed.message}; the cache does not serve: ${error.message}`
    throw new MoeppError('ERR_HUB', message, { cause: failure })
  }
}
