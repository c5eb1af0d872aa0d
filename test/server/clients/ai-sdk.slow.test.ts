/** The AI SDK, by its provider for servers of OpenAI's kind. */
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { APICallError, generateText, Output, stepCountIs, streamText, tool } from 'ai'
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
  whileFull,
} from './servers.js'

const provider = (baseURL: string) =>
  createOpenAICompatible({
    name: 'moepp',
    baseURL,
    includeUsage: true,
    supportsStructuredOutputs: true,
  })
const text = provider(await baseUrl(books)).completionModel('moepp')
const chat = provider(await baseUrl(chatter.model)).chatModel('moepp')

const COMPLETION = { model: text, prompt: 'The old man', maxOutputTokens: 8, temperature: 0 }
const CHAT = {
  model: chat,
  system: 'Be brief.',
  prompt: 'The weather in Oslo?',
  maxOutputTokens: 40,
  seed: 3,
  providerOptions: { moepp: { reasoningEffort: 'none' } },
}
const FORMED = {
  ...CHAT,
  maxOutputTokens: 400,
  providerOptions: { moepp: { reasoningEffort: 'none', logit_bias: ENDS } },
}
const weather = tool({
  description: 'The weather of a city.',
  inputSchema: z.object({ city: z.enum(['Oslo', 'Rome']) }),
  execute: async ({ city }) => {
    chatter.says = 'Rain.'
    return `Rain in ${city}`
  },
})

t.afterEach(() => {
  chatter.says = undefined
})

t.test('a completion, whole and streamed', async t => {
  const whole = await generateText(COMPLETION)
  t.equal(whole.usage.outputTokens, 8)
  t.equal(whole.finishReason, 'length')
  const stream = streamText(COMPLETION)
  t.equal(await stream.text, whole.text)
  t.match(await stream.usage, { inputTokens: whole.usage.inputTokens, outputTokens: 8 })
})

t.test('a chat, whole and streamed', async t => {
  const whole = await generateText(CHAT)
  t.equal(whole.usage.outputTokens, 40)
  const stream = streamText(CHAT)
  let read = ''
  for await (const part of stream.textStream) read += part
  t.equal(read, whole.text)
  t.equal((await stream.usage).totalTokens, whole.usage.totalTokens)
  chatter.says = '<think>\nNo idea.\n</think>\n\nRain.'
  const thinking = await generateText({ ...CHAT, providerOptions: {} })
  t.match(thinking, { text: 'Rain.', reasoningText: 'No idea.', finishReason: 'stop' })
  const { reasoningText, text } = streamText({ ...CHAT, providerOptions: {} })
  t.strictSame([await reasoningText, await text], ['No idea.', 'Rain.'])
})

t.test('a form, by a schema of zod', async t => {
  const schema = z.object({ word: z.enum(['yes', 'no']), sure: z.boolean() })
  const output = Output.object({ schema })
  const whole = await generateText({ ...FORMED, output })
  t.ok(schema.safeParse(whole.output).success)
  t.strictSame(await streamText({ ...FORMED, output }).output, whole.output)
  const choice = Output.choice({ options: ['rain', 'sun'] })
  t.match((await generateText({ ...FORMED, output: choice })).output, /^(rain|sun)$/)
  t.match(await failure(generateText({ ...FORMED, output, maxOutputTokens: 2 })), {
    name: 'AI_NoObjectGeneratedError',
  })
})

t.test('calls of tools: forced', async t => {
  for (const toolChoice of ['required', { type: 'tool', toolName: 'weather' }] as const) {
    // The tool runs, and changes it.
    chatter.says = undefined
    const { toolCalls, finishReason } = await generateText({
      ...FORMED,
      tools: { weather },
      toolChoice,
    })
    t.equal(finishReason, 'tool-calls')
    t.match(toolCalls, [{ toolName: 'weather', input: { city: /^(Oslo|Rome)$/ } }])
  }
})

t.test('calls of tools: chosen, and their results brought back', async t => {
  const body = { ...CHAT, tools: { weather }, stopWhen: stepCountIs(3) }
  chatter.says = CALL
  const whole = await generateText(body)
  chatter.says = CALL
  const stream = streamText(body)
  await stream.consumeStream()
  for (const steps of [whole.steps, await stream.steps])
    t.match(steps, [
      { toolResults: [{ output: 'Rain in Oslo' }] },
      { text: 'Rain.', finishReason: 'stop' },
    ])
})

t.test('errors', async t => {
  const problem = async (body: object) => {
    const error = await failure(generateText({ ...COMPLETION, ...body }))
    return { isCall: APICallError.isInstance(error), ...error }
  }
  const url = await baseUrl(books)
  t.match(await problem({ model: provider(url).completionModel('none') }), {
    isCall: true,
    statusCode: 404,
    isRetryable: false,
    data: { error: { code: 'model_not_found' } },
  })
  t.match(await problem({ temperature: -1 }), {
    statusCode: 400,
    data: { error: { param: 'temperature' } },
  })
  t.match(await problem({ prompt: 'a '.repeat(2 * books.contextLength) }), {
    statusCode: 400,
    data: { error: { code: 'context_length_exceeded' } },
  })
  const failed: unknown[] = []
  const stream = streamText({
    ...COMPLETION,
    temperature: -1,
    onError: ({ error }) => {
      failed.push(error)
    },
  })
  await stream.consumeStream()
  t.match(failed, [{ statusCode: 400 }])
})

t.test('a full server: refused at once, or tried again', t =>
  whileFull(async (url, leave) => {
    const body = { ...COMPLETION, model: provider(url).completionModel('moepp') }
    const refused = await failure(generateText({ ...body, maxRetries: 0 }))
    t.match(refused, { statusCode: 429, isRetryable: true })
    t.equal(refused.responseHeaders['retry-after'], '1')
    const patient = generateText({ ...body, maxRetries: 1 })
    leave()
    t.equal((await patient).usage.outputTokens, 8)
  }),
)

t.test('a client that aborts frees the engine', async t => {
  const controller = new AbortController()
  const body = { model: text, prompt: LONG.prompt, maxOutputTokens: LONG.max_tokens }
  const whole = generateText({ ...body, abortSignal: controller.signal })
  whole.catch(() => {})
  await untilRunning(books, true)
  controller.abort()
  t.match(await failure(whole), { name: 'AbortError' })
  await untilRunning(books, false)
  const another = new AbortController()
  const stream = streamText({ ...CHAT, maxOutputTokens: 3000, abortSignal: another.signal })
  for await (const part of stream.fullStream) if (part.type === 'text-delta') another.abort()
  await untilRunning(chatter.model, false)
})
