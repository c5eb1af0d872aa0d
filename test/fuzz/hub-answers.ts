/**
 * A hub's answers as HTTP responses, byte for byte. `{hub}` in them is the hub's address, `{n}` the
 * number of the request: pages can link to ever new ones. The header x-fuzz-repeat says how often
 * the body is sent.
 */

import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { changedBytes } from './bytes.js'
import { boundary, changedText } from './hostile.js'
import { changedJson } from './json.js'
import type { Random } from './random.js'
import type { Folder } from './seeds.js'

export const REPOSITORY = 'acme/model'
export const COMMIT = 'a'.repeat(40)

/** The name of the file that answers a request for this path. */
export function answerName(path: string): string {
  const { pathname, search } = new URL(path, 'http://hub')
  if (pathname.includes('/revision/')) return 'answer commit'
  if (pathname.includes('/tree/')) return search.includes('cursor') ? 'answer page' : 'answer tree'
  return `answer ${decodeURIComponent(pathname.split('/').at(-1)!)}`
}

function response(body: Buffer, headers: readonly string[] = [], status = '200 OK'): Buffer {
  return Buffer.concat([Buffer.from([`HTTP/1.1 ${status}`, ...headers, '', ''].join('\r\n')), body])
}

const NEXT = `Link: <{hub}/api/models/${REPOSITORY}/tree/${COMMIT}?cursor={n}>; rel="next"`

/** The answers of a hub that has these files. */
export function answersFor(files: Folder, { pages = false, compressed = false } = {}): Folder {
  const listed = [...files].map(([path, bytes]) => entryOf(path, bytes))
  const half = pages ? Math.ceil(listed.length / 2) : listed.length
  const json = (value: unknown, ...headers: string[]) => {
    const body = Buffer.from(JSON.stringify(value))
    const type = 'Content-Type: application/json'
    return compressed
      ? response(gzipSync(body), [type, 'Content-Encoding: gzip', ...headers])
      : response(body, [type, ...headers])
  }
  return new Map([
    ['answer commit', json({ _id: '1', id: REPOSITORY, sha: COMMIT })],
    ['answer tree', json(listed.slice(0, half), ...(pages ? [NEXT] : []))],
    ['answer page', json(listed.slice(half))],
    ...[...files].map(([path, bytes]): [string, Buffer] => [
      `answer ${path}`,
      response(bytes, [`Content-Length: ${bytes.length}`]),
    ]),
  ])
}

function entryOf(path: string, bytes: Buffer): unknown {
  const entry = { type: 'file', path, size: bytes.length, oid: gitHash(bytes) }
  if (path.endsWith('.json')) return entry
  return { ...entry, lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 130 } }
}

export const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

export const gitHash = (bytes: Buffer) =>
  createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')

const STATUSES = [
  '200 OK',
  '201 x',
  '204 x',
  '206 Partial',
  '301 x',
  '302 x',
  '304 x',
  '307 x',
].concat(['400 x', '401 x', '403 x', '404 x', '416 x', '429 x', '500 x', '503 x', '999 x', '0 x'])

const HEADERS = [NEXT, `${NEXT}, ${NEXT}`, 'Link: <', 'Link: <>; rel="next"', 'Link: ; rel=next']
  .concat(['Link: <http://elsewhere.test/{n}>; rel="next"', 'Link: <not a url>; rel="next"'])
  .concat([
    'Link: <file:///etc/passwd>; rel="next"',
    'Link: <data:application/json,[]>; rel="next"',
  ])
  .concat(['Location: {hub}/x', 'Location: http://elsewhere.test/', 'Location: file:///etc/passwd'])
  .concat(['Content-Encoding: gzip', 'Content-Encoding: br', 'Content-Encoding: x'])
  .concat(['Content-Length: 0', 'Content-Length: 99999999999', 'Content-Length: -1'])
  .concat(['Content-Range: bytes 5-9/10', 'Content-Range: bytes 0-9/*', 'Content-Range: x'])
  .concat(['Transfer-Encoding: chunked', 'X-Error-Code: RepoNotFound', 'ETag: "x"'])

export function changedAnswer(bytes: Buffer, random: Random): Buffer {
  const { status, headers, body } = splitAnswer(bytes)
  switch (random.below(12)) {
    case 0:
      return response(body, headers, random.pick(STATUSES))
    case 1:
    case 2:
      return response(body, [...headers, random.pick(HEADERS)], status)
    case 3:
      return response(
        body,
        headers.filter((_, i) => i !== random.below(headers.length)),
        status,
      )
    case 4:
      return response(
        body,
        headers.map(line => (random.once(2) ? changedHeader(line, random) : line)),
        status,
      )
    case 5:
      return random.once(60)
        ? response(
            random.pick([Buffer.from(' '), body]),
            [...headers, 'x-fuzz-repeat: 400000000'],
            status,
          )
        : changedBytes(bytes, random)
    case 6:
      return response(changedBytes(body, random), headers, status)
    default:
      return response(changedJson(bodyOf(bytes, body), random), headers, status)
  }
}

/** One line still, and in latin1. */
function changedHeader(line: string, random: Random): string {
  const [name, ...value] = line.split(': ')
  const text = random.once(3) ? String(boundary(random)) : changedText(value.join(': '), random)
  return `${name}: ${text.replace(/[^\x20-\x7e]/g, '?')}`
}

/** One Buffer for the body of one answer, so that its tree is kept. */
const bodies = new WeakMap<Buffer, Buffer>()

function bodyOf(bytes: Buffer, body: Buffer): Buffer {
  const known = bodies.get(bytes) ?? body
  bodies.set(bytes, known)
  return known
}

export interface Answer {
  /** `200 OK` */
  readonly status: string
  /** `Name: value` */
  readonly headers: readonly string[]
  readonly body: Buffer
}

export function splitAnswer(bytes: Buffer): Answer {
  const end = bytes.indexOf('\r\n\r\n')
  const [first = '', ...headers] = bytes
    .toString('latin1', 0, end < 0 ? bytes.length : end)
    .split('\r\n')
  return { status: first.slice(9), headers, body: bytes.subarray(end < 0 ? bytes.length : end + 4) }
}
