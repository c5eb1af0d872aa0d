/** The playground: three files of this package. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'

const FOLDER = join(import.meta.dirname, '..', 'page')

const FILES = [
  { path: '/', name: 'index.html', type: 'text/html; charset=utf-8' },
  { path: '/page.css', name: 'page.css', type: 'text/css; charset=utf-8' },
  { path: '/page.js', name: 'page.js', type: 'text/javascript; charset=utf-8' },
]

/** The page loads its own files and calls its own server. No text becomes HTML. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ')

const HEADERS = {
  'content-security-policy': POLICY,
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
  // Asked for each time; an unchanged file is a 304.
  'cache-control': 'no-cache',
}

/** Adds the routes of the page: `/`, `/page.css`, `/page.js`. The files are read once. */
export function pageRoutes(app: FastifyInstance): void {
  for (const { path, name, type } of FILES) {
    const contents = readFileSync(join(FOLDER, name))
    const etag = `"${createHash('sha256').update(contents).digest('base64url')}"`
    app.get(path, (request, reply) => {
      reply.headers({ ...HEADERS, etag })
      // A proxy that compresses makes the tag a weak one: W/"...".
      if (request.headers['if-none-match']?.includes(etag)) return reply.code(304).send()
      return reply.type(type).send(contents)
    })
  }
}
