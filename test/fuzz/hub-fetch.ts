/** Answers in the place of fetch: a hub without a network. */

import { type Answer, answerName, splitAnswer } from './hub-answers.js'
import { Finding } from './oracle.js'
import type { Folder } from './seeds.js'

export const HUB = 'http://hub.test'
export const TOKEN = 'hf_secret'

/** Requests of one call, and bytes of one answer that is kept in memory. */
const MOST_REQUESTS = 20_000
const MOST_ANSWER_BYTES = 300_000_000

/** A fetch that is answered by `answers`; what it must not be asked, or take, is a Finding. */
export function fetchFrom(answers: Folder): typeof fetch {
  let requests = 0
  return async (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input)
    if (++requests > MOST_REQUESTS) throw new Finding(`more than ${MOST_REQUESTS} requests`)
    const headers = new Headers(init?.headers)
    if (url.origin !== HUB && headers.has('Authorization'))
      throw new Finding('the token goes to another address')
    const bytes =
      url.origin === HUB ? answers.get(answerName(url.pathname + url.search)) : undefined
    const filled = bytes && fill(bytes, HUB, requests)
    const response = filled ? asResponse(splitAnswer(filled)) : new Response('{}', { status: 404 })
    return Object.defineProperty(response, 'url', { value: url.href })
  }
}

export function fill(bytes: Buffer, hub: string, request: number): Buffer {
  if (!bytes.includes('{')) return bytes
  return Buffer.from(
    bytes.toString('latin1').replaceAll('{hub}', hub).replaceAll('{n}', String(request)),
    'latin1',
  )
}

export function repeats({ headers }: Answer): number {
  return Number(headers.find(line => line.startsWith('x-fuzz-repeat: '))?.slice(15) ?? 1)
}

/** The answer as fetch returns it. A malformed answer is a TypeError, as in fetch. */
function asResponse(answer: Answer): Response {
  const status = Number.parseInt(answer.status, 10)
  try {
    const headers = answer.headers.map((line): [string, string] => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon), line.slice(colon + 1).trim()]
    })
    const times = repeats(answer)
    const body = [101, 204, 205, 304].includes(status)
      ? null
      : times > 1
        ? long(answer.body, times)
        : answer.body
    return new Response(body, { status, headers })
  } catch (cause) {
    throw new TypeError('fetch failed', { cause })
  }
}

/** The body many times over, in chunks of a megabyte. */
function long(body: Buffer, times: number): ReadableStream<Uint8Array> {
  const chunk = Buffer.alloc(
    Math.max(1, Math.floor(1_000_000 / Math.max(1, body.length))) * Math.max(1, body.length),
    body.length > 0 ? body : ' ',
  )
  let left = body.length * times
  let taken = 0
  return new ReadableStream({
    pull(controller) {
      if (left <= 0) return controller.close()
      taken += chunk.length
      left -= chunk.length
      if (taken > MOST_ANSWER_BYTES)
        controller.error(
          new Finding(`more than ${MOST_ANSWER_BYTES} bytes of one answer are taken`),
        )
      else controller.enqueue(chunk)
    },
  })
}
