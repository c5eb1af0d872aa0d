/** The page's three files, as the server gives them. */
import fastify from 'fastify'
import t from 'tap'
import { pageRoutes } from '../../lib/server/routes/page.js'

const app = fastify()
pageRoutes(app)
t.teardown(() => app.close())

const FILES = [
  ['/', 'text/html; charset=utf-8', /^<!doctype html>/],
  ['/page.css', 'text/css; charset=utf-8', /prefers-reduced-motion/],
  ['/page.js', 'text/javascript; charset=utf-8', /v1\/chat\/completions/],
] as const

for (const [url, type, text] of FILES)
  t.test(url, async t => {
    const whole = await app.inject(url)
    t.match(whole, { statusCode: 200, body: text })
    t.match(whole.headers, {
      'content-type': type,
      'content-length': String(whole.rawPayload.length),
      'x-content-type-options': 'nosniff',
      'content-security-policy': /^default-src 'none'; script-src 'self'; /,
      'cache-control': 'no-cache',
    })
    t.notMatch(whole.headers['content-security-policy'], /unsafe|\*|https?:/)
    const etag = String(whole.headers.etag)
    t.match(etag, /^"[\w-]{43}"$/)
    for (const known of [etag, `W/${etag}`, `"other", ${etag}`]) {
      const again = await app.inject({ url, headers: { 'if-none-match': known } })
      t.match(again, { statusCode: 304, body: '' })
      t.equal(again.headers.etag, etag)
    }
    const other = await app.inject({ url, headers: { 'if-none-match': '"other"' } })
    t.equal(other.statusCode, 200)
    t.match(await app.inject({ url, method: 'HEAD' }), { statusCode: 200, body: '' })
    t.equal((await app.inject({ url, method: 'POST' })).statusCode, 404)
  })

t.test('the page is light, and names no other host', async t => {
  const bodies = await Promise.all(FILES.map(async ([url]) => (await app.inject(url)).body))
  const total = bodies.reduce((sum, body) => sum + Buffer.byteLength(body), 0)
  t.ok(total < 60_000, `${total} bytes`)
  t.notMatch(bodies.join(''), /https?:\/\//)
  t.notMatch(bodies[0], /\son\w+=|\sstyle=|<style|<script(?! type="module" src="page.js">)/)
})
