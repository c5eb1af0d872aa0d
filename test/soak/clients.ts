/** A process of clients, which the soak may kill: node clients.js ADDRESS SEED CLIENTS. */
import { setTimeout as sleep } from 'node:timers/promises'
import { random as randomOf } from '../support/random.js'
import type { Ended } from './soak.js'

const [address, seed, clients] = process.argv.slice(2) as [string, string, string]
const random = randomOf(Number(seed))
const below = (n: number) => Math.floor(random() * n)
const pick = <T>(values: readonly T[]): T => values[below(values.length)]!

let isEnding = false
process.on('message', () => {
  isEnding = true
})

const WORDS = 'the old man was at a window and she had not seen it before 日本 é 👍'.split(' ')
const text = () => Array.from({ length: 1 + below(200) }, () => pick(WORDS)).join(' ')

interface Request {
  readonly path: string
  readonly body: string
}

function completion(): Request {
  const body = {
    prompt: pick([text, () => [text(), text()], () => [5, 6, 7]])(),
    max_tokens: 1 + below(64),
    n: 1 + below(2),
    stream: random() < 0.5,
    ignore_eos: random() < 0.5,
    ...(random() < 0.2 && { echo: true, logprobs: below(6) }),
    ...(random() < 0.2 && { stop: ['old', 'é'] }),
  }
  return { path: '/v1/completions', body: JSON.stringify(body) }
}

function chat(): Request {
  const body = {
    messages: [{ role: 'user', content: text() }],
    max_tokens: 1 + below(64),
    stream: random() < 0.5,
    ...(random() < 0.2 && { logprobs: true, top_logprobs: 3 }),
    ...(random() < 0.1 && { response_format: { type: 'json_object' } }),
  }
  return { path: '/v1/chat/completions', body: JSON.stringify(body) }
}

const WRONG: readonly (() => Request)[] = [
  () => ({ path: '/v1/completions', body: '{"prompt": "a"' }),
  () => ({ path: '/v1/completions', body: JSON.stringify({ prompt: 7 }) }),
  () => ({ path: '/v1/completions', body: JSON.stringify({ prompt: 'a', max_tokens: -1 }) }),
  () => ({ path: '/v1/completions', body: JSON.stringify({ prompt: 'word '.repeat(20_000) }) }),
  () => ({ path: '/v1/completions', body: '['.repeat(100_000) }),
  () => ({ path: '/v1/chat/completions', body: JSON.stringify({ messages: [] }) }),
  () => ({ path: '/v1/chat/completions', body: JSON.stringify({ messages: [{ role: 7 }] }) }),
]

function send({ path, body }: Request, signal: AbortSignal): Promise<Response> {
  return fetch(`${address}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
    signal,
  })
}

/** Reads all of an answer; slowly, if asked to. */
async function read(response: Response, pauseMs: number): Promise<string> {
  let text = ''
  const decoder = new TextDecoder()
  for await (const part of response.body ?? []) {
    text += decoder.decode(part, { stream: true })
    if (pauseMs > 0) await sleep(pauseMs)
  }
  return text
}

/** A whole answer has choices, and a stream ends as it must. */
function faultOf(request: Request, status: number, text: string): string | undefined {
  const isStream = request.body.includes('"stream":true')
  const isWhole = isStream ? text.trimEnd().endsWith('data: [DONE]') : text.includes('"choices"')
  if (status === 429 || (status === 200 && isWhole)) return undefined
  return `${status} for ${request.body.slice(0, 200)}: ${text.slice(-300)}`
}

/** Milliseconds after which a request counts as lost. */
const LOST_MS = 120_000
/** Node's fetch may never settle if it is aborted, although its connection is closed. */
const LEFT_MS = 5_000

function lostAfter(ms: number): Promise<never> {
  return new Promise((_, reject) => {
    setTimeout(reject, ms, new Error(`no answer after ${ms} ms`)).unref()
  })
}

async function goodRequest(): Promise<Ended> {
  const request = pick([completion, chat])()
  const leaves = random() < 0.3
  const controller = new AbortController()
  if (leaves) setTimeout(() => controller.abort(), below(500))
  const work = async () => {
    const response = await send(request, controller.signal)
    const answer = await read(response, random() < 0.1 ? 20 : 0)
    const fault = faultOf(request, response.status, answer)
    return { end: String(response.status), ...(fault !== undefined && { fault }) }
  }
  try {
    return await Promise.race([work(), lostAfter(leaves ? LEFT_MS : LOST_MS)])
  } catch (error) {
    if (leaves) return { end: 'left' }
    return { end: 'broken', fault: `${request.body.slice(0, 200)}: ${error}` }
  }
}

async function wrongRequest(): Promise<Ended> {
  const request = pick(WRONG)()
  const { status } = await send(request, AbortSignal.timeout(60_000))
  const fault = `${status} for ${request.body.slice(0, 100)}`
  return { end: String(status), ...(status !== 400 && status !== 429 && { fault }) }
}

async function client(): Promise<void> {
  while (!isEnding) {
    const ended = await (random() < 0.1 ? wrongRequest() : goodRequest())
    process.send?.(ended)
    // As a polite client does.
    if (ended.end === '429') await sleep(below(500))
  }
}

await Promise.all(Array.from({ length: Number(clients) }, client))
process.disconnect()
