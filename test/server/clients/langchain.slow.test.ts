/** LangChain's models of OpenAI's kind. */
import { HumanMessage, ToolMessage } from '@langchain/core/messages'
import { tool } from '@langchain/core/tools'
import { ChatOpenAI, OpenAI } from '@langchain/openai'
import t from 'tap'
import { z } from 'zod'
import { baseUrl, books, CALL, chatter, ENDS, failure, untilRunning, whileFull } from './servers.js'

const at = (baseURL: string) => ({
  model: 'moepp',
  apiKey: 'none',
  maxRetries: 0,
  configuration: { baseURL },
})
const texts = at(await baseUrl(books))
const completion = new OpenAI({ ...texts, maxTokens: 8, temperature: 0 })
const CHAT = {
  ...at(await baseUrl(chatter.model)),
  maxTokens: 40,
  modelKwargs: { seed: 3, reasoning_effort: 'none' },
}
const chat = new ChatOpenAI(CHAT)
const formed = new ChatOpenAI({
  ...CHAT,
  maxTokens: 400,
  modelKwargs: { ...CHAT.modelKwargs, logit_bias: ENDS },
})

const QUESTION = 'The weather in Oslo?'
const weather = tool(({ city }: { city: string }) => `Rain in ${city}`, {
  name: 'weather',
  description: 'The weather of a city.',
  schema: z.object({ city: z.enum(['Oslo', 'Rome']) }),
})

t.afterEach(() => {
  chatter.says = undefined
})

/** Resolves to all pieces of a stream. */
async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const pieces: T[] = []
  for await (const piece of stream) pieces.push(piece)
  return pieces
}

t.test('a completion, whole, streamed and in batches', async t => {
  const text = await completion.invoke('The old man')
  t.equal((await all(await completion.stream('The old man'))).join(''), text)
  t.strictSame(await completion.batch(['The old man', 'The old man']), [text, text])
})

t.test('a chat, whole and streamed, with log-probabilities', async t => {
  const whole = await chat.invoke([
    ['system', 'Be brief.'],
    ['human', QUESTION],
  ])
  t.equal(whole.usage_metadata?.output_tokens, 40)
  t.equal(whole.response_metadata.finish_reason, 'length')
  const pieces = await all(
    await chat.stream([
      ['system', 'Be brief.'],
      ['human', QUESTION],
    ]),
  )
  const sum = pieces.reduce((sum, piece) => sum.concat(piece))
  t.equal(sum.content, whole.content)
  t.equal(sum.usage_metadata?.output_tokens, 40)
  const probable = new ChatOpenAI({ ...CHAT, logprobs: true, topLogprobs: 2 })
  const { response_metadata } = await probable.invoke(QUESTION)
  t.match(response_metadata, { logprobs: { content: { length: 40 } } })
})

t.test('a form, by a schema of zod', async t => {
  const schema = z.object({ word: z.enum(['yes', 'no']), sure: z.boolean() })
  for (const method of ['jsonSchema', 'functionCalling'] as const) {
    const shaped = formed.withStructuredOutput(schema, { method })
    t.ok(schema.safeParse(await shaped.invoke(QUESTION)).success, method)
  }
  const free = await formed
    .withStructuredOutput(schema, { method: 'jsonMode' })
    .invoke(QUESTION)
    .catch(error => error)
  t.equal(free.lc_error_code, 'OUTPUT_PARSING_FAILURE', 'an object, but not of the form')
})

t.test('calls of tools: forced', async t => {
  for (const tool_choice of ['any', 'weather']) {
    const { tool_calls } = await formed.bindTools([weather], { tool_choice }).invoke(QUESTION)
    t.match(tool_calls, [{ name: 'weather', args: { city: /^(Oslo|Rome)$/ } }])
  }
})

t.test('calls of tools: chosen, and their results brought back', async t => {
  const able = chat.bindTools([weather])
  const question = new HumanMessage(QUESTION)
  chatter.says = CALL
  const pieces = await all(await able.stream([question]))
  const call = pieces.reduce((sum, piece) => sum.concat(piece))
  t.match(call.tool_calls, [{ name: 'weather', args: { city: 'Oslo' } }])
  const result = await weather.invoke({ ...call.tool_calls![0]!, type: 'tool_call' })
  t.ok(ToolMessage.isInstance(result))
  chatter.says = 'Rain.'
  const answer = await able.invoke([question, call, result])
  t.equal(answer.content, 'Rain.')
  t.strictSame(answer.tool_calls, [])
})

t.test('errors', async t => {
  const failing = (options: object) => new OpenAI({ ...texts, ...options }).invoke('a')
  t.match(await failure(failing({ model: 'none' })), { status: 404, code: 'model_not_found' })
  t.match(await failure(failing({ temperature: -1 })), { status: 400, param: 'temperature' })
  const long = 'a '.repeat(2 * books.contextLength)
  t.match(await failure(completion.invoke(long)), { name: 'ContextOverflowError' })
  t.match(await failure(chat.invoke('a '.repeat(2 * chatter.model.contextLength))), {
    name: 'ContextOverflowError',
  })
})

t.test('a full server: refused at once, or tried again', t =>
  whileFull(async (url, leave) => {
    t.match(await failure(new OpenAI(at(url)).invoke('a')), { status: 429 })
    const patient = new OpenAI({ ...at(url), maxRetries: 3, maxTokens: 4 }).invoke('a')
    leave()
    t.type(await patient, 'string')
  }),
)

t.test('a client that aborts frees the engine', async t => {
  const controller = new AbortController()
  const long = new OpenAI({ ...texts, maxTokens: 4000, modelKwargs: { ignore_eos: true } })
  const whole = long.invoke('The old man', { signal: controller.signal })
  whole.catch(() => {})
  await untilRunning(books, true)
  controller.abort()
  await t.rejects(whole)
  await untilRunning(books, false)
  for await (const _ of await new ChatOpenAI({ ...CHAT, maxTokens: 3000 }).stream(QUESTION)) break
  await untilRunning(chatter.model, false)
})
