/** /v1/chat/completions: messages, answers and their parts, tools, forms, log-probabilities. */
import t from 'tap'
import { loadModel } from '../../lib/index.js'
import { type Server, serve } from '../../lib/server/index.js'
import { chatCheckpoint } from '../support/chat-checkpoint.js'
import { dictated } from './dictated.js'
import { checkAnswer, post, postStream } from './openai-answers.js'

const URL = '/v1/chat/completions'
const USER = { role: 'user', content: 'Name a river.' }
const TOOL = {
  type: 'function',
  function: {
    name: 'weather',
    description: 'The weather of a city.',
    parameters: { type: 'object', properties: { city: { enum: ['Oslo', 'Rome'] } } },
  },
}
const CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'

const model = await loadModel(chatCheckpoint(t.testdir()), { kvCacheTokens: 8192 })
const dictation = dictated(model)
const server = await serve(dictation.model, { modelName: 'chat' })
t.teardown(async () => {
  await server.close()
  await model.close()
})

async function chat(body: object, text?: string, at: Server = server) {
  dictation.says = text
  const { status, body: answer } = await post(at, URL, { messages: [USER], ...body })
  dictation.says = undefined
  if (status !== 200) throw new Error(`${status}: ${JSON.stringify(answer)}`)
  checkAnswer('CreateChatCompletionResponse', answer)
  return answer
}

async function streamed(body: object, text?: string) {
  dictation.says = text
  const events = await postStream(server, URL, { messages: [USER], ...body })
  dictation.says = undefined
  for (const event of events) checkAnswer('CreateChatCompletionStreamResponse', event)
  return events
}

/** A message as clients put it together from the deltas of choice `index`. */
// biome-ignore lint/suspicious/noExplicitAny: events of a stream
function assembled(events: any[], index = 0) {
  const choices = events.flatMap(event => event.choices).filter(choice => choice.index === index)
  const deltas = choices.map(({ delta }) => delta)
  const textOf = (name: string) => deltas.map(delta => delta[name] ?? '').join('')
  return {
    roles: deltas.flatMap(delta => delta.role ?? []),
    content: textOf('content'),
    reasoning: textOf('reasoning_content'),
    calls: deltas.flatMap(delta => delta.tool_calls ?? []),
    reasons: choices.flatMap(({ finish_reason: reason }) => reason ?? []),
    logprobs: choices.flatMap(({ logprobs }) => logprobs?.content ?? []),
  }
}

t.test('an answer is that of chat', async t => {
  const answer = await chat({ model: 'chat', max_tokens: 9, seed: 4 })
  const options = { maxNewTokens: 9, temperature: 1, topK: 0, seed: 4 }
  const { message, usage } = await model.chat([USER], options)
  t.equal(answer.choices[0].message.content, message.content)
  t.match(answer.id, /^chatcmpl-\w+$/)
  t.match(answer.choices[0], { message: { role: 'assistant', refusal: null }, logprobs: null })
  t.match(answer.usage, { prompt_tokens: usage.promptTokens, completion_tokens: 9 })
  const newer = await chat({ max_completion_tokens: 9, max_tokens: 3, seed: 4 })
  t.equal(newer.choices[0].message.content, message.content, 'the newer name wins')
})

t.test('an answer ends by itself', async t => {
  const [choice] = (await chat({}, 'The Glomma.')).choices
  t.match(choice, { message: { content: 'The Glomma.' }, finish_reason: 'stop' })
  t.notOk('tool_calls' in choice.message || 'reasoning_content' in choice.message)
  const cut = (await chat({ stop: ['om', '#'] }, 'The Glomma.')).choices[0]
  t.match(cut, { message: { content: 'The Gl' }, finish_reason: 'stop' })
})

t.test('thoughts', async t => {
  const text = '<think>\nA river.\n</think>\n\nThe Glomma.'
  const { message } = (await chat({}, text)).choices[0]
  t.match(message, { reasoning_content: 'A river.', content: 'The Glomma.' })
  const { reasoning, content } = assembled(await streamed({}, text))
  t.match({ reasoning, content }, { reasoning: 'A river.', content: 'The Glomma.' })
})

t.test('calls of tools', async t => {
  const text = `I look.\n${CALL}\n${CALL.replace('Oslo', 'Rome')}`
  const [choice] = (await chat({ tools: [TOOL] }, text)).choices
  t.equal(choice.finish_reason, 'tool_calls')
  t.equal(choice.message.content, 'I look.')
  const functions = ['Oslo', 'Rome'].map(city => ({
    type: 'function',
    function: { name: 'weather', arguments: JSON.stringify({ city }) },
  }))
  t.match(choice.message.tool_calls, functions)
  const ids = choice.message.tool_calls.map(({ id }: { id: string }) => id)
  t.ok(ids.every((id: string) => /^call_\w{20,}$/.test(id)) && ids[0] !== ids[1])
  t.equal((await chat({ tools: [TOOL] }, CALL)).choices[0].message.content, null)
  const whole = assembled(await streamed({ tools: [TOOL] }, text))
  t.match(whole, { content: 'I look.', roles: ['assistant'], reasons: ['tool_calls'] })
  t.match(
    whole.calls,
    functions.map((each, index) => ({ ...each, index })),
  )
})

t.test('a wrong call arrives as it is', async t => {
  const text = '<tool_call>\n{"name": "weather", "arguments": {"city": }}\n</tool_call>'
  const call = { function: { name: 'weather', arguments: '{"city": }' } }
  const [choice] = (await chat({ tools: [TOOL] }, text)).choices
  t.match(choice, { message: { tool_calls: [call] }, finish_reason: 'tool_calls' })
  t.match(assembled(await streamed({ tools: [TOOL] }, text)).calls, [call])
  const forced = { tools: [TOOL], tool_choice: 'required', reasoning_effort: 'none' }
  const cut = (await chat({ ...forced, max_tokens: 12, seed: 1 })).choices[0]
  t.equal(cut.finish_reason, 'length')
  t.equal(cut.message.tool_calls.length, 1)
})

t.test('a call can be forced', async t => {
  const choices = ['required', { type: 'function', function: { name: 'weather' } }]
  for (const tool_choice of choices) {
    const body = { tools: [TOOL], tool_choice, reasoning_effort: 'none', seed: 1 }
    const { tool_calls } = (await chat(body)).choices[0].message
    t.equal(tool_calls[0].function.name, 'weather')
    t.ok(['Oslo', 'Rome', undefined].includes(JSON.parse(tool_calls[0].function.arguments).city))
  }
  const { usage } = await chat({ tools: [TOOL], tool_choice: 'none' }, 'No.')
  t.equal(usage.prompt_tokens, (await chat({}, 'No.')).usage.prompt_tokens, 'it is told of none')
})

t.test('forms of answers', async t => {
  const schema = { type: 'object', properties: { big: { type: 'boolean' } }, required: ['big'] }
  const json_schema = { name: 'river', strict: true, schema }
  const body = { response_format: { type: 'json_schema', json_schema }, reasoning_effort: 'none' }
  const { content } = (await chat(body)).choices[0].message
  t.equal(typeof JSON.parse(content).big, 'boolean')
  const any = { response_format: { type: 'json_object' }, reasoning_effort: 'none' }
  t.match((await chat({ ...any, max_tokens: 5 })).choices[0].message.content, /^\s*\{/)
  const text = await chat({ response_format: { type: 'text' } }, 'The Glomma.')
  t.equal(text.choices[0].message.content, 'The Glomma.')
})

t.test('messages of all kinds', async t => {
  const call = { id: 'call_1', type: 'function', function: { name: 'weather', arguments: '{}' } }
  const messages = [
    { role: 'developer', content: [{ type: 'text', text: 'Be terse.' }] },
    { role: 'user', content: 'How warm is it?', name: 'Anna' },
    { role: 'assistant', content: null, tool_calls: [call], refusal: null, annotations: null },
    { role: 'tool', tool_call_id: 'call_1', content: '4' },
    { role: 'assistant', content: 'Cold.', reasoning_content: 'Four is cold.', audio: null },
    USER,
  ]
  const { usage } = await chat({ messages }, 'Yes.')
  const own = [
    { role: 'system', content: 'Be terse.' },
    { role: 'user', content: 'How warm is it?', name: 'Anna' },
    { role: 'assistant', content: '', toolCalls: [{ name: 'weather', arguments: {} }] },
    { role: 'tool', content: '4' },
    { role: 'assistant', content: 'Cold.', reasoning: 'Four is cold.' },
    USER,
  ]
  const text = await model.tokenizer.applyChatTemplate(own, { addGenerationPrompt: true })
  t.equal(usage.prompt_tokens, model.tokenizer.encode(text).length)
})

t.test('variables of the template', async t => {
  const lengthOf = async (body: object) => (await chat(body, 'Yes.')).usage.prompt_tokens
  const thinking = await lengthOf({})
  const silent = await lengthOf({ chat_template_kwargs: { enable_thinking: false } })
  t.not(silent, thinking)
  t.equal(await lengthOf({ reasoning_effort: 'none' }), silent)
  t.equal(await lengthOf({ reasoning_effort: 'high' }), thinking)
})

t.test('log-probabilities', async t => {
  const body = { max_tokens: 5, seed: 3, logprobs: true, top_logprobs: 2 }
  const { content, refusal } = (await chat(body)).choices[0].logprobs
  const options = { maxNewTokens: 5, temperature: 1, topK: 0, seed: 3, logprobs: 2 }
  const { logprobs } = await model.chat([USER], options)
  t.equal(refusal, null)
  t.equal(content.length, 5)
  for (const [i, entry] of content.entries()) {
    const { tokenId, logprob, top } = logprobs![i]!
    const bytes = model.tokenizer.pieces.bytes.get(tokenId)
    t.strictSame(entry.bytes, bytes ? [...bytes] : [...Buffer.from(entry.token)])
    t.equal(entry.logprob, logprob)
    t.strictSame(
      entry.top_logprobs.map((each: { logprob: number }) => each.logprob),
      top.map(each => each.logprob),
    )
  }
  t.strictSame(assembled(await streamed(body)).logprobs, content)
  const none = (await chat({ ...body, top_logprobs: null })).choices[0].logprobs
  t.strictSame(none.content[0].top_logprobs, [])
  const prompt = await chat({ max_tokens: 1, prompt_logprobs: 1 })
  t.equal(prompt.prompt_logprobs.length, prompt.usage.prompt_tokens)
})

t.test('several choices, in streams too', async t => {
  const body = { n: 3, max_tokens: 6, seed: 8 }
  const { choices, usage } = await chat(body)
  const events = await streamed({ ...body, stream_options: { include_usage: true } })
  for (const [i, { message, finish_reason }] of choices.entries()) {
    const { content, roles, reasons } = assembled(events, i)
    t.match({ content, roles }, { content: message.content, roles: ['assistant'] })
    t.strictSame(reasons, [finish_reason])
    const alone = await chat({ max_tokens: 6, seed: 8 + i })
    t.equal(alone.choices[0].message.content, message.content, 'text i has the seed + i')
  }
  const last = events.at(-1)
  t.strictSame(last.choices, [])
  t.equal(last.usage.total_tokens, usage.total_tokens)
  t.ok(events.slice(0, -1).every(event => event.usage === null))
  t.match(events[0].choices[0].delta, { role: 'assistant', content: '' })
})

t.test('the next turn finds the conversation in the cache', async t => {
  const text = 'The Glomma is the longest and largest river in Norway.'
  const first = await chat({}, text)
  const messages = [USER, first.choices[0].message, { role: 'user', content: 'How long?' }]
  const { usage } = await chat({ messages }, 'Long.')
  const { prompt_tokens, completion_tokens } = first.usage
  t.equal(usage.prompt_tokens_details.cached_tokens, prompt_tokens + completion_tokens - 1)
})

const WRONG: readonly [object, string, RegExp][] = [
  [{ messages: null }, 'messages', /expected a list/],
  [{ messages: [] }, 'messages', /expected a list/],
  [{ messages: ['a'] }, 'messages[0]', /object/],
  [{ messages: [{ role: 'robot', content: 'a' }] }, 'messages[0].role', /developer/],
  [{ messages: [{ role: 'user' }] }, 'messages[0].content', /expected a text/],
  [{ messages: [{ ...USER, contents: 'a' }] }, 'messages[0].contents', /did you mean content/],
  [{ messages: [{ role: 'tool', content: 'a' }] }, 'messages[0].tool_call_id', /expected a string/],
  [
    { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: {} }] }] },
    'messages[0].content[0].type',
    /only "text"/,
  ],
  [
    { messages: [USER, { role: 'assistant', tool_calls: [{ function: { name: 'a' } }] }, USER] },
    'messages[1].tool_calls[0].function.arguments',
    /expected a text/,
  ],
  [{ tools: [{ type: 'custom', custom: {} }] }, 'tools[0].type', /only "function"/],
  [{ tools: [{ type: 'function', function: {} }] }, 'tools[0].function.name', /string/],
  [{ tool_choice: 'required' }, 'tool_choice', /needs tools/],
  [{ tools: [TOOL], tool_choice: { type: 'allowed_tools' } }, 'tool_choice.type', /only/],
  [
    { tools: [TOOL], tool_choice: { type: 'function', function: { name: 'wether' } } },
    'tool_choice.function.name',
    /"weather"/,
  ],
  [{ functions: [] }, 'functions', /not supported/],
  [{ parallel_tool_calls: false }, 'parallel_tool_calls', /only true/],
  [{ modalities: ['text', 'audio'] }, 'modalities', /only \["text"\]/],
  [{ audio: {} }, 'audio', /not supported/],
  [{ prediction: {} }, 'prediction', /not supported/],
  [{ web_search_options: {} }, 'web_search_options', /not supported/],
  [{ reasoning_effort: 'huge' }, 'reasoning_effort', /"low"/],
  [{ chat_template_kwargs: { messages: [] } }, 'chat_template_kwargs.messages', /themselves/],
  [{ top_logprobs: 2 }, 'top_logprobs', /logprobs true/],
  [{ logprobs: 2 }, 'logprobs', /true or false/],
  [
    { tools: [TOOL], response_format: { type: 'json_object' } },
    'response_format',
    /together with tools/,
  ],
  [
    { response_format: { type: 'json_schema', json_schema: { name: 'a', schema: { not: {} } } } },
    'response_format.json_schema.schema',
    /not/,
  ],
  [{ maxTokens: 3 }, 'maxTokens', /did you mean max_tokens/],
]

for (const [body, param, message] of WRONG)
  t.test(`refused: ${JSON.stringify(body).slice(0, 70)}`, async t => {
    for (const stream of [false, true]) {
      const { status, body: answer } = await post(server, URL, {
        messages: [USER],
        ...body,
        stream,
      })
      t.equal(status, 400)
      checkAnswer('ErrorResponse', answer)
      t.match(answer.error, { type: 'invalid_request_error', param })
      t.match(answer.error.message, message)
    }
  })

t.test('a conversation that is too long', async t => {
  const messages = [{ role: 'user', content: 'a b '.repeat(4000) }]
  const { status, body } = await post(server, URL, { messages })
  t.equal(status, 400)
  t.match(body.error, { param: 'messages', code: 'context_length_exceeded', n_ctx: 4096 })
  t.ok(body.error.n_prompt_tokens > 4096)
})

t.test('a base model has no chats', async t => {
  await using base = await loadModel(chatCheckpoint(t.testdir(), { template: null }))
  const own = await serve(base)
  t.teardown(() => own.close())
  const { status, body } = await post(own, URL, { messages: [USER] })
  t.equal(status, 400)
  t.match(body.error, { param: 'messages', code: 'ERR_NO_CHAT_TEMPLATE' })
  t.equal(body.error.message, 'this model has no chat template: /v1/completions continues texts')
  const effort = await post(own, URL, { messages: [USER], reasoning_effort: 'low' })
  t.match(effort.body.error, { param: 'reasoning_effort' })
})
