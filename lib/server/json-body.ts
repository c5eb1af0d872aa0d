/** Bodies of requests: JSON of bounded depth. */
import type { FastifyInstance } from 'fastify'
import { RequestError } from './errors.js'

/** JSON schemas of tools nest far less. */
const MAX_DEPTH = 64

/** Replaces the parser of JSON by one that refuses deep nesting before it parses. */
export function parseJsonBodies(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error')
  app.removeContentTypeParser('application/json')
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    const text = body as string
    if (isDeeper(text, MAX_DEPTH)) done(tooDeep())
    else parse(request, text, done)
  })
}

function tooDeep(): RequestError {
  const message = `the body is nested deeper than ${MAX_DEPTH} levels`
  return new RequestError(400, 'invalid_request_error', message)
}

/** True if brackets outside of strings nest deeper than `most`, in a text that may be no JSON. */
function isDeeper(text: string, most: number): boolean {
  let depth = 0
  let inString = false
  for (let at = 0; at < text.length; at++) {
    const char = text.charCodeAt(at)
    if (inString) {
      if (char === BACKSLASH) at++
      else if (char === QUOTE) inString = false
    } else if (char === QUOTE) inString = true
    else if (char === OPEN_BRACE || char === OPEN_BRACKET) {
      if (++depth > most) return true
    } else if (char === CLOSE_BRACE || char === CLOSE_BRACKET) depth--
  }
  return false
}

const [QUOTE, BACKSLASH] = [0x22, 0x5c]
const [OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET] = [0x7b, 0x7d, 0x5b, 0x5d]
