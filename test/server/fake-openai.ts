/** A server with the playground's page, whose models answer by script: the prompt is its name. */

import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import fastify, { type FastifyInstance } from 'fastify'
import { pageRoutes } from '../../lib/server/routes/page.js'

export const CHAT = 'acme/chat'
export const BASE = 'acme/base'
export const KEY = 'sk-test'

type Chunk = object | string

/** A token of probability `p`, with two others beside it. */
function chatToken(token: string, p: number) {
  const logprob = Math.log(p)
  const other = (token: string, share: number) => ({
    token,
    logprob: Math.log((1 - p) * share),
    bytes: [...Buffer.from(token)],
  })
  const bytes = [...Buffer.from(token)]
  const top = [{ token, logprob, bytes }, other(' other', 0.7), other('\n', 0.3)]
  return { token, logprob, bytes, top_logprobs: top }
}

const chunk = (choice: object) => ({ choices: [{ index: 0, ...choice }] })
const chat = (delta: object, tokens: object[] = []) =>
  chunk({ delta, logprobs: tokens.length > 0 ? { content: tokens } : null, finish_reason: null })
const said = (token: string, p: number) => chat({ content: token }, [chatToken(token, p)])
const thought = (token: string, p: number) =>
  chat({ reasoning_content: token }, [chatToken(token, p)])
const ended = (reason: string) => chunk({ delta: {}, finish_reason: reason })
const usage = (tokens: number) => ({
  choices: [],
  usage: { prompt_tokens: PROMPT_TOKENS, completion_tokens: tokens, ffn_experts_per_token: 1.4375 },
})

/** Words of an answer, with probabilities that repeat. */
export const STORY =
  'The old lighthouse keeper climbed the stairs. Each step creaked under him, as it had for forty ' +
  'years, and the wind off the bay pulled at the shutters until they sang.\n\nAt the top he lit ' +
  'the lamp and waited.'
const STORY_TOKENS = STORY.match(/\s*\S+|\s+$/g)!
const probability = (i: number) => [0.98, 0.61, 0.32, 0.9, 0.08, 0.75, 0.99][i % 7]!

/** The old form of log-probabilities: lists side by side. */
const completion = (token: string, p: number) =>
  chunk({
    text: token,
    logprobs: {
      tokens: [token],
      token_logprobs: [Math.log(p)],
      top_logprobs: [{ [token]: Math.log(p), ' other': Math.log(1 - p) }],
      text_offset: [0],
    },
    finish_reason: null,
  })

const SCRIPTS: Readonly<Record<string, () => AsyncIterable<Chunk> | Iterable<Chunk>>> = {
  story: () => [...STORY_TOKENS.map((token, i) => said(token, probability(i))), ended('length')],
  thoughts: () => [
    ...['The user', ' asks', ' for', ' weather.'].map((token, i) => thought(token, 0.5 + i / 10)),
    said('It is', 0.9),
    said(' mild.', 0.4),
    ended('stop'),
  ],
  call: () => [
    chat({ tool_calls: [{ index: 0, id: 'a', function: { name: 'weather', arguments: '' } }] }),
    chat({ tool_calls: [{ index: 0, function: { arguments: '{"city": ' } }] }),
    chat({ tool_calls: [{ index: 0, function: { arguments: '"Oslo"}' } }] }),
    ended('tool_calls'),
  ],
  // The first token is half a character, so that its text comes with the second.
  emoji: () => [
    chat({ content: '' }, [{ ...chatToken('', 0.5), token: 'bytes:\\xf0\\x9f' }]),
    chat({ content: '😀' }, [{ ...chatToken('', 0.5), token: 'bytes:\\x98\\x80' }]),
    said(' 日本', 0.8),
    ended('stop'),
  ],
  html: () => [
    said('<img src=x onerror="document.title=1">', 0.5),
    chat({ content: '<b>bold</b>' }),
    chat({ reasoning_content: '<script>document.title=2</script>' }),
    ended('stop'),
  ],
  error: () => [
    said('Half', 0.5),
    { error: { message: 'The device failed.', type: 'server_error', param: null, code: null } },
  ],
  json: () => [said('Half', 0.5), '{"choices": ['],
}

/** Endless, until the client goes away. */
async function* slow(onAbort: () => void): AsyncGenerator<Chunk> {
  try {
    for (let i = 0; ; i++) {
      yield said(` ${i}`, 0.5)
      await sleep(20)
    }
  } finally {
    onAbort()
  }
}

/** Experts that a token of the chat model picks. */
export const TOP_K = 2
/** FFN experts of token `i` of a text. */
export const ffnExperts = (i: number) => [0.25, 1, 2, 1.5, 0.75, 1.75][i % 6]!
const PROMPT_TOKENS = 7

/** The chunks with the routing of their tokens, one late, and that of two tokens of the prompt. */
async function* routed(chunks: AsyncIterable<Chunk> | Iterable<Chunk>): AsyncGenerator<Chunk> {
  let tokens = 0
  for await (const chunk of chunks) {
    // biome-ignore lint/suspicious/noExplicitAny: a JSON document
    const choice = typeof chunk === 'string' ? undefined : (chunk as any).choices?.[0]
    const { content, tokens: texts = content } = choice?.logprobs ?? {}
    if (texts !== undefined) {
      const computed = tokens === 0 ? [-2, -1] : [tokens - 1]
      choice.routing = {
        first: PROMPT_TOKENS + computed[0]!,
        prompt_tokens: PROMPT_TOKENS,
        ffn_experts: computed.map(i => (i < 0 ? TOP_K : ffnExperts(i))),
      }
      tokens += texts.length
    }
    yield chunk
  }
}

/** Bytes of a stream, with the odd line ends and cuts that the standard allows. */
async function* bytesOf(chunks: AsyncIterable<Chunk> | Iterable<Chunk>, isWhole: boolean) {
  yield Buffer.from(': a comment\r\n\r\n')
  for await (const chunk of chunks) {
    const data = typeof chunk === 'string' ? chunk : JSON.stringify(chunk)
    const bytes = Buffer.from(`data: ${data}\r\n\r\n`)
    // In the middle of a character, if there is one.
    const at = bytes.findIndex(byte => byte > 0x7f) + 1 || 5
    yield bytes.subarray(0, at)
    await sleep(1)
    yield bytes.subarray(at)
  }
  if (isWhole) yield Buffer.from('data: [DONE]\n\n')
}

interface Body {
  readonly prompt?: string
  readonly messages?: { role: string; content: string }[]
  readonly [name: string]: unknown
}

export interface FakeOpenAi {
  readonly url: string
  /** Bodies of the requests for answers, in their order. */
  readonly bodies: Body[]
  /** Answers that clients have left. */
  aborted: number
  close(): Promise<void>
}

const failure = (message: string) => ({ error: { message, type: 'x', param: null, code: null } })

function modelRoutes(app: FastifyInstance, wantsKey: boolean): void {
  app.addHook('onRequest', async ({ url, headers }, reply) => {
    if (!wantsKey || !url.startsWith('/v1/') || headers.authorization === `Bearer ${KEY}`) return
    return reply.code(401).send(failure('Incorrect API key provided.'))
  })
  app.get('/v1/models', () => ({ object: 'list', data: [{ id: CHAT }, { id: BASE }] }))
  app.get<{ Params: { id: string } }>('/v1/models/:id', ({ params: { id } }) => ({
    id,
    capabilities: { chat: id === CHAT },
    ...(id === CHAT && { experts_per_token: TOP_K }),
  }))
}

/** Listens on a free port. `wantsKey`: nothing without the API key `KEY`. */
export async function fakeOpenAi({ wantsKey = false } = {}): Promise<FakeOpenAi> {
  const app = fastify()
  const fake = { url: '', bodies: [] as Body[], aborted: 0, close: () => app.close() }
  pageRoutes(app)
  modelRoutes(app, wantsKey)

  app.post<{ Body: Body }>('/v1/chat/completions', async ({ body }, reply) => {
    fake.bodies.push(body)
    const name = body.messages?.at(-1)?.content ?? ''
    if (name === 'busy')
      return reply.code(429).header('retry-after', '3').send(failure('The queue is full.'))
    const script =
      name === 'slow' ? slow(() => fake.aborted++) : (SCRIPTS[name] ?? SCRIPTS.story)!()
    const whole = Array.isArray(script) && name !== 'cut' ? [...script, usage(8)] : script
    const chunks = body.return_routing ? routed(whole) : whole
    return reply.type('text/event-stream').send(Readable.from(bytesOf(chunks, name !== 'cut')))
  })
  app.post<{ Body: Body }>('/v1/completions', async ({ body }, reply) => {
    fake.bodies.push(body)
    const whole = [
      ...STORY_TOKENS.slice(0, 6).map((token, i) => completion(token, probability(i))),
      chunk({ text: '', finish_reason: 'length' }),
      usage(6),
    ]
    const chunks = body.return_routing ? routed(whole) : whole
    return reply.type('text/event-stream').send(Readable.from(bytesOf(chunks, true)))
  })
  fake.url = await app.listen({ host: '127.0.0.1', port: 0 })
  return fake
}
