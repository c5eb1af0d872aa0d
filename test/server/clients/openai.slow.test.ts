/** OpenAI's own client. */
import OpenAI, { APIUserAbortError, BadRequestError, NotFoundError, RateLimitError } from 'openai'
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod'
import t from 'tap'
import { z } from 'zod'
import {
  baseUrl,
  books,
  CALL,
  chatter,
  ENDS,
  failure,
  LONG,
  untilRunning,
  WEATHER,
  whileFull,
} from './servers.js'

const client = (baseURL: string, maxRetries = 0) =>
  new OpenAI({ baseURL, apiKey: 'none', maxRetries })
const texts = client(await baseUrl(books, { modelName: 'books' }))
const chats = client(await baseUrl(chatter.model, { modelName: 'chat' }))

const MODEL = 'books'
const USER = { role: 'user', content: 'The weather in Oslo?' } as const
const CHAT = {
  model: 'chat',
  messages: [USER],
  max_completion_tokens: 40,
  seed: 3,
  reasoning_effort: 'none' as const,
}
const FORMED = { ...CHAT, max_completion_tokens: 400, logit_bias: ENDS }
const tools = [{ type: 'function' as const, function: WEATHER }]
const Verdict = z.object({ word: z.enum(['yes', 'no']), sure: z.boolean() })

t.afterEach(() => {
  chatter.says = undefined
})

t.test('models', async t => {
  const { data } = await texts.models.list()
  t.strictSame(
    data.map(({ id }) => id),
    ['books'],
  )
  t.equal((await texts.models.retrieve('books')).id, 'books')
  t.match(await failure(texts.models.retrieve('none')), { constructor: NotFoundError })
})

t.test('a completion, whole and streamed, with log-probabilities', async t => {
  const body = { model: MODEL, prompt: 'The old man', max_tokens: 8, temperature: 0, logprobs: 2 }
  const { choices, usage, _request_id } = await texts.completions.create(body)
  t.equal(usage?.completion_tokens, 8)
  t.match(_request_id, /^[\w-]{36}$/)
  const [{ text, logprobs } = { text: '', logprobs: null }] = choices
  t.equal(logprobs?.tokens?.length, 8)
  const options = { stream: true, stream_options: { include_usage: true } } as const
  const stream = await texts.completions.create({ ...body, ...options })
  const chunks = []
  for await (const chunk of stream) chunks.push(chunk)
  t.equal(chunks.map(({ choices }) => choices[0]?.text ?? '').join(''), text)
  t.equal(chunks.at(-1)?.usage?.completion_tokens, 8)
})

t.test('a chat, whole and streamed', async t => {
  const { choices, usage } = await chats.chat.completions.create({
    ...CHAT,
    logprobs: true,
    top_logprobs: 2,
  })
  const [{ message, finish_reason, logprobs }] = choices as [(typeof choices)[0]]
  t.equal(finish_reason, 'length')
  t.equal(logprobs?.content?.length, usage?.completion_tokens)
  t.equal(logprobs?.content?.[0]?.top_logprobs.length, 2)
  const stream = chats.chat.completions.stream({ ...CHAT, stream_options: { include_usage: true } })
  let text = ''
  stream.on('content', delta => {
    text += delta
  })
  t.equal(await stream.finalContent(), message.content)
  t.equal(text, message.content)
  t.equal((await stream.totalUsage()).total_tokens, usage?.total_tokens)
})

t.test('a form, by a schema of zod', async t => {
  const body = { ...FORMED, response_format: zodResponseFormat(Verdict, 'verdict') }
  const { choices } = await chats.chat.completions.parse(body)
  t.type(choices[0]?.message.parsed?.sure, 'boolean')
  const final = await chats.chat.completions.stream(body).finalChatCompletion()
  t.strictSame(final.choices[0]?.message.parsed, choices[0]?.message.parsed)
  t.match(await failure(chats.chat.completions.parse({ ...body, max_completion_tokens: 2 })), {
    name: 'Error',
    message: /length/,
  })
})

t.test('calls of tools: forced, chosen, streamed', async t => {
  const city = z.object({ city: z.enum(['Oslo', 'Rome']) })
  const strict = [zodFunction({ name: 'weather', parameters: city })]
  for (const tool_choice of [
    'required',
    { type: 'function', function: { name: 'weather' } },
  ] as const) {
    const { choices } = await chats.chat.completions.parse({
      ...FORMED,
      tools: strict,
      tool_choice,
    })
    t.equal(choices[0]?.finish_reason, 'tool_calls')
    const call = choices[0]?.message.tool_calls?.[0]?.function
    t.match(call?.parsed_arguments, { city: /^(Oslo|Rome)$/ })
  }
  chatter.says = CALL
  const auto = await chats.chat.completions.create({ ...CHAT, tools })
  const streamed = await chats.chat.completions.stream({ ...CHAT, tools }).finalChatCompletion()
  for (const { choices } of [auto, streamed])
    t.match(choices, [
      {
        finish_reason: 'tool_calls',
        message: { tool_calls: [{ function: { name: 'weather', arguments: '{"city":"Oslo"}' } }] },
      },
    ])
})

t.test('a tool that the client runs, and whose result comes back', async t => {
  chatter.says = CALL
  const runner = chats.chat.completions.runTools({
    ...CHAT,
    tools: [
      {
        type: 'function',
        function: {
          ...WEATHER,
          parse: JSON.parse,
          function: ({ city }: { city: string }) => {
            chatter.says = 'Rain.'
            return `Rain in ${city}`
          },
        },
      },
    ],
  })
  t.equal(await runner.finalContent(), 'Rain.')
  t.equal(await runner.finalFunctionToolCallResult(), 'Rain in Oslo')
  t.strictSame(
    runner.messages.map(({ role }) => role),
    ['user', 'assistant', 'tool', 'assistant'],
  )
})

t.test('errors have the classes of their status', async t => {
  const body = { model: MODEL, prompt: 'a', max_tokens: 1 }
  t.match(await failure(texts.completions.create({ ...body, model: 'gpt' })), {
    constructor: NotFoundError,
  })
  t.match(await failure(texts.completions.create({ ...body, temperature: -1 })), {
    constructor: BadRequestError,
    status: 400,
    param: 'temperature',
    type: 'invalid_request_error',
  })
  const long = Array(books.contextLength).fill(5)
  t.match(await failure(texts.completions.create({ ...body, prompt: long })), {
    status: 400,
    code: 'context_length_exceeded',
    error: { n_prompt_tokens: long.length, n_ctx: long.length },
  })
  const stream = texts.completions.create({ ...body, prompt: long, stream: true })
  t.match(await failure(stream), { constructor: BadRequestError }, 'a refused stream is no stream')
  const keyed = client(await baseUrl(books, { apiKeys: ['secret'] }))
  t.match(await failure(keyed.models.list()), { constructor: OpenAI.AuthenticationError })
  t.match(await failure(texts.embeddings.create({ model: MODEL, input: 'a' })), {
    constructor: NotFoundError,
  })
})

t.test('a full server: refused at once, or tried again when Retry-After says so', t =>
  whileFull(async (url, leave) => {
    const body = { model: 'moepp', prompt: 'a', max_tokens: 1 }
    const once = client(url).completions.create(body)
    t.match(await failure(once), { constructor: RateLimitError, code: 'queue_full' })
    const waits: (string | null)[] = []
    const patient = new OpenAI({
      baseURL: url,
      apiKey: 'none',
      maxRetries: 2,
      fetch: async (...request) => {
        const answer = await fetch(...request)
        if (answer.status === 429) leave()
        waits.push(answer.headers.get('retry-after'))
        return answer
      },
    })
    t.equal((await patient.completions.create(body)).usage?.completion_tokens, 1)
    t.strictSame(waits, ['1', null])
  }),
)

t.test('a client that aborts frees the engine', async t => {
  const controller = new AbortController()
  const whole = texts.completions.create({ ...LONG, model: MODEL }, { signal: controller.signal })
  whole.catch(() => {})
  await untilRunning(books, true)
  controller.abort()
  t.match(await failure(whole), { constructor: APIUserAbortError })
  await untilRunning(books, false)
  const body = { ...LONG, model: MODEL, stream: true } as const
  for await (const _ of await texts.completions.create(body)) break
  await untilRunning(books, false)
  const stream = chats.chat.completions.stream({ ...CHAT, max_completion_tokens: 3000 })
  stream.on('content', () => stream.abort())
  t.match(await failure(stream.done()), { constructor: APIUserAbortError })
  await untilRunning(chatter.model, false)
})
