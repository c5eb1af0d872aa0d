/** Failures of a hub, and those that another attempt or the cache may mend. */

import { MoeppError } from '../errors.js'
import type { Repository } from './repository.js'

/** An answer whose status is not of success. */
export class HubStatusError extends Error {
  constructor(readonly statusCode: number) {
    super(`status ${statusCode}: ${STATUS_HINTS.get(statusCode) ?? 'the request failed'}`)
  }
}

/** An answer that ended before it was whole, or came too slowly. */
export class Interrupted extends Error {}

/** The cache holds no snapshot that is whole and right. If there is part of one, why it is not. */
export class NotCached extends Error {}

const STATUS_HINTS: ReadonlyMap<number, string> = new Map([
  [401, 'it needs an access token (option token, or HF_TOKEN), or does not exist'],
  [403, 'access is denied; for a gated model, accept its terms on the hub first'],
  [404, 'no such model, revision or file'],
])

/** Worth another attempt, or the cache: the connection failed, or the hub is overloaded. */
export function isTransient(error: unknown): boolean {
  if (error instanceof HubStatusError) return error.statusCode >= 500 || error.statusCode === 429
  return error instanceof Interrupted || isConnectionError(error)
}

/** True for the errors of Node's fetch when a connection fails: at once, or during the body. */
function isConnectionError(error: unknown): error is TypeError {
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

/** The typed form of a download's exception. An error of the caller's callback is left as it is. */
export function toMoeppError(error: unknown, repository: Repository): unknown {
  const { name, signal } = repository
  if (signal?.aborted)
    return new MoeppError('ERR_ABORTED', `${name}: the download was aborted`, { cause: error })
  if (error instanceof MoeppError) return error
  if (error instanceof HubStatusError || error instanceof Interrupted)
    return hubError(repository, error.message, error)
  if (isConnectionError(error)) {
    const reason = (error.cause as NodeJS.ErrnoException | undefined)?.code ?? error.message
    return hubError(repository, `the connection failed (${reason})`, error)
  }
  const { code, syscall } = error as NodeJS.ErrnoException
  if (syscall !== undefined)
    return hubError(repository, `the cache cannot be used (${code}, ${syscall})`, error)
  return error
}
