/**
 * A hub on 127.0.0.1 with the answers that moepp needs: revision, listing in pages, files with
 * ranges. Large files are redirected to a second address, as the real hub sends them to its
 * storage.
 */

import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export const COMMIT = 'a'.repeat(40)

export interface Request {
  readonly on: 'hub' | 'storage'
  readonly url: string
  readonly range: string | undefined
  readonly authorization: string | undefined
}

export class FakeHub {
  /** Of the repository acme/model at COMMIT. */
  readonly files = new Map<string, Buffer>()
  readonly revisions = new Map([
    ['main', COMMIT],
    [COMMIT, COMMIT],
  ])
  readonly requests: Request[] = []
  /** Bytes of file content sent, by path. */
  readonly sent = new Map<string, number>()
  /** Wanted in every request to the hub itself. */
  token: string | undefined
  /** Answers every request with this status. */
  status: number | undefined
  /**
   * Of the next response with this file, so many bytes, then the connection breaks. Used up by that
   * response.
   */
  readonly breakAfter = new Map<string, number>()
  /** Content sent in place of the file's; what is listed stays. */
  readonly forged = new Map<string, Buffer>()
  /**
   * Of the next response with this file, so many bytes, then a pause until the promise resolves.
   * Used up by that response.
   */
  readonly held = new Map<string, { readonly after: number; readonly until: Promise<unknown> }>()
  /** Answers in place of the true ones: the commit, or each page of the listing. */
  readonly answers = new Map<'commit' | 'listing', (response: ServerResponse) => void>()
  ignoresRanges = false
  /** Said of each file; its bytes stay. */
  encoding: string | undefined
  /** Kept, because a closed server has no address. */
  endpoint = ''

  private constructor(
    private readonly hub: Server,
    private readonly storage: Server,
  ) {}

  static async start(files: Iterable<[string, Buffer]>): Promise<FakeHub> {
    const hub = createServer()
    const storage = createServer()
    const fake = new FakeHub(hub, storage)
    for (const [path, bytes] of files) fake.files.set(path, bytes)
    hub.on('request', (request, response) => fake.answerHub(request, response))
    storage.on('request', (request, response) => fake.answerStorage(request, response))
    await Promise.all(
      [hub, storage].map(server => new Promise<void>(done => server.listen(0, '127.0.0.1', done))),
    )
    fake.endpoint = addressOf(hub)
    return fake
  }

  get bytesSent(): number {
    return [...this.sent.values()].reduce((sum, bytes) => sum + bytes, 0)
  }

  forget(): void {
    this.requests.length = 0
    this.sent.clear()
  }

  async close(): Promise<void> {
    for (const server of [this.hub, this.storage]) {
      server.closeAllConnections()
      await new Promise(done => server.close(done))
    }
  }

  private note(on: Request['on'], { url = '', headers }: IncomingMessage): void {
    this.requests.push({ on, url, range: headers.range, authorization: headers.authorization })
  }

  private answerHub(request: IncomingMessage, response: ServerResponse): void {
    this.note('hub', request)
    const { pathname, searchParams } = new URL(request.url!, this.endpoint)
    const revision = /^\/api\/models\/acme\/model\/revision\/([^/]+)$/.exec(pathname)?.[1]
    const sha = revision && this.revisions.get(decodeURIComponent(revision))
    const path = new RegExp(`^/acme/model/resolve/${COMMIT}/(.+)$`).exec(pathname)?.[1]
    if (this.status !== undefined) fail(response, this.status)
    else if (this.token !== undefined && request.headers.authorization !== `Bearer ${this.token}`)
      fail(response, 401)
    else if (revision && this.answers.has('commit')) this.answers.get('commit')!(response)
    else if (sha)
      json(response, { _id: '1', id: 'acme/model', sha, lastModified: '2024-01-01T00:00:00Z' })
    else if (pathname === `/api/models/acme/model/tree/${COMMIT}`) {
      const answer = this.answers.get('listing')
      if (answer) answer(response)
      else this.listPage(searchParams, response)
    } else if (path === undefined || !this.files.has(path)) fail(response, 404)
    else if (isLarge(path)) {
      response
        .writeHead(302, { Location: `${addressOf(this.storage)}/${path}`, 'X-Repo-Commit': COMMIT })
        .end()
    } else this.send(path, request, response)
  }

  private answerStorage(request: IncomingMessage, response: ServerResponse): void {
    this.note('storage', request)
    this.send(decodeURIComponent(request.url!.slice(1)), request, response)
  }

  /** Four entries a page. */
  private listPage(query: URLSearchParams, response: ServerResponse): void {
    const start = Number(query.get('cursor') ?? 0)
    const entries = [...this.files]
      .slice(start, start + 4)
      .map(([path, bytes]) => listed(path, bytes))
    if (start === 0)
      entries.push({ type: 'directory', path: 'figures', oid: 'b'.repeat(40), size: 0 })
    if (start + 4 < this.files.size) {
      const next = `${this.endpoint}/api/models/acme/model/tree/${COMMIT}?cursor=${start + 4}`
      response.setHeader('Link', `<${next}>; rel="next"`)
    }
    json(response, entries)
  }

  private send(path: string, request: IncomingMessage, response: ServerResponse): void {
    const bytes = this.forged.get(path) ?? this.files.get(path)!
    const from = this.ignoresRanges
      ? undefined
      : /^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1]
    const body = bytes.subarray(Number(from ?? 0))
    response.writeHead(from === undefined ? 200 : 206, {
      'Content-Length': body.length,
      ETag: `"${createHash('sha256').update(bytes).digest('hex')}"`,
      ...(this.encoding !== undefined && { 'Content-Encoding': this.encoding }),
      ...(from !== undefined && {
        'Content-Range': `bytes ${from}-${bytes.length - 1}/${bytes.length}`,
      }),
    })
    const hold = this.held.get(path)
    this.held.delete(path)
    if (hold) {
      response.write(body.subarray(0, hold.after))
      void hold.until.then(() => response.end(body.subarray(hold.after)))
      return
    }
    const limit = this.breakAfter.get(path)
    this.breakAfter.delete(path)
    const sent = body.subarray(0, limit)
    this.sent.set(path, (this.sent.get(path) ?? 0) + sent.length)
    if (limit === undefined) response.end(sent)
    // A pause, so that what was sent arrives before the connection ends.
    else response.write(sent, () => setTimeout(() => response.destroy(), 50))
  }
}

function isLarge(path: string): boolean {
  return path.endsWith('.bin') || path.endsWith('.safetensors') || path === 'tokenizer.model'
}

function listed(path: string, bytes: Buffer): Record<string, unknown> {
  const git = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')
  const entry = { type: 'file', path, size: bytes.length, oid: git }
  if (!isLarge(path)) return entry
  const oid = createHash('sha256').update(bytes).digest('hex')
  return { ...entry, lfs: { oid, size: bytes.length, pointerSize: 130 } }
}

function addressOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

export function json(response: ServerResponse, body: unknown): void {
  response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(body))
}

function fail(response: ServerResponse, status: number): void {
  response
    .writeHead(status, { 'Content-Type': 'application/json' })
    .end(JSON.stringify({ error: `status ${status}` }))
}
