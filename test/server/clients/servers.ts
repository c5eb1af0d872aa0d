/** Servers that listen, for other people's clients: of a base model, and of one that chats. */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { loadModel, type Model } from '../../../lib/index.js'
import { type ServeOptions, serve } from '../../../lib/server/index.js'
import { chatCheckpoint } from '../../support/chat-checkpoint.js'
import { root } from '../../support/golden.js'
import { dictated } from '../dictated.js'

/** A text that runs until it is cut. */
export const LONG = { prompt: 'The old man', max_tokens: 4000, ignore_eos: true } as const

export const WEATHER = {
  name: 'weather',
  description: 'The weather of a city.',
  parameters: {
    type: 'object' as const,
    properties: { city: { type: 'string' as const, enum: ['Oslo', 'Rome'] } },
    required: ['city'],
    additionalProperties: false,
  },
}

/** A call of it, as Qwen3 writes calls. */
export const CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'

export const books = await loadModel(join(root, 'models', 'books-7m'))
export const chatter = dictated(await loadModel(chatCheckpoint(t.testdir())))
/** A bias that ends an answer as soon as its form allows it. */
export const ENDS = { [chatter.model.tokenizer.tokenToId('<|im_end|>')!]: 100 }
t.teardown(() => Promise.all([books.close(), chatter.model.close()]))

/** The base of the URLs of a server's API; it listens until the tests end. */
export async function baseUrl(model: Model, options: ServeOptions = {}): Promise<string> {
  const server = await serve(model, { drainMs: 0, page: false, ...options })
  t.teardown(() => server.close())
  return `${await server.listen({ port: 0 })}/v1`
}

/** The error that a call rejects with. */
// biome-ignore lint/suspicious/noExplicitAny: other people's errors
export function failure(call: PromiseLike<unknown>): PromiseLike<any> {
  return call.then(
    () => {
      throw new Error('expected a failure')
    },
    error => error,
  )
}

/** Resolves when the model computes nothing, or something if that is wanted. */
export async function untilRunning(model: Model, isRunning: boolean): Promise<void> {
  while (model.stats().running > 0 !== isRunning) await sleep(5)
}

/** Runs `work` with a server of one place, which a text of another client has until then. */
export async function whileFull<T>(
  work: (url: string, leave: () => void) => Promise<T>,
): Promise<T> {
  const url = await baseUrl(books, { maxRunning: 1, maxQueued: 0 })
  const other = new AbortController()
  const holder = fetch(`${url}/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(LONG),
    signal: other.signal,
  })
  holder.catch(() => {})
  await untilRunning(books, true)
  const leave = () => other.abort()
  try {
    return await work(url, leave)
  } finally {
    leave()
    await untilRunning(books, false)
  }
}
