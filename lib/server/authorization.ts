/** API keys. */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { RequestError } from './errors.js'

/**
 * A check of a request's bearer token; without keys it lets all pass. It takes the same time for
 * every token: of each key and token hashes are compared, which have one length.
 */
export function keyCheck(keys: readonly string[]): (request: FastifyRequest) => void {
  const known = keys.map(hash)
  return ({ headers }) => {
    if (known.length === 0) return
    const given = hash(/^Bearer (.+)$/i.exec(headers.authorization ?? '')?.[1] ?? '')
    // Every key is compared, whichever matches.
    const matches = known.filter(key => timingSafeEqual(key, given))
    if (matches.length > 0) return
    const message = 'expected one of the API keys in the header: Authorization: Bearer KEY'
    throw new RequestError(401, 'authentication_error', message, { code: 'invalid_api_key' })
  }
}

function hash(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
