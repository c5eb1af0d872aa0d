/** The page's reading of streams. */
import t from 'tap'
import { deltaOf } from '../../lib/server/page/chunks.js'
import { EventParser, eventsOf } from '../../lib/server/page/sse.js'

/** The events of a stream whose bytes come in chunks of a size. */
async function read(text: string, size: number): Promise<string[]> {
  const bytes = new TextEncoder().encode(text)
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (let at = 0; at < bytes.length; at += size)
        controller.enqueue(bytes.subarray(at, at + size))
      controller.close()
    },
  })
  const events: string[] = []
  for await (const event of eventsOf(body)) events.push(event)
  return events
}

t.test('events, however they are cut', async t => {
  const lines = [
    '\ufeff: a comment',
    'data: {"a": "日本 😀"}',
    '',
    'event: other',
    'id: 7',
    'data:no space',
    'data:  two spaces',
    'data',
    '',
    '',
    'retry: 5',
    '',
    'database: none',
    'data: a: b\u2028c',
    '',
    'data: [DONE]',
    '',
    'data: no empty line follows',
  ]
  const expected = ['{"a": "日本 😀"}', 'no space\n two spaces\n', 'a: b\u2028c', '[DONE]']
  for (const end of ['\n', '\r\n', '\r'])
    for (const size of [1, 2, 3, 7, 1000])
      t.same(await read(lines.join(end), size), expected, `${JSON.stringify(end)}, ${size} bytes`)
})

t.test('a CR ends a line at once', async t => {
  const parser = new EventParser()
  t.same(parser.push('data: a\r\r'), ['a'])
  t.same(parser.push(''), [])
  t.same(parser.push('\ndata: b\n'), [], 'the LF belongs to the CR before')
  t.same(parser.push('\n'), ['b'])
})

t.test('a reader that stops early cancels the body', async t => {
  let cancelled = false
  const body = new ReadableStream<Uint8Array>({
    pull: controller => controller.enqueue(new TextEncoder().encode('data: a\n\n')),
    cancel: () => {
      cancelled = true
    },
  })
  for await (const event of eventsOf(body)) {
    t.equal(event, 'a')
    break
  }
  t.equal(cancelled, true)
})

const chunk = (choice: object, more = {}) =>
  deltaOf(JSON.stringify({ choices: [{ index: 0, ...choice }], ...more }))

t.test('chunks of both forms', async t => {
  const empty = {
    text: '',
    thought: '',
    calls: [],
    scores: [],
    routing: undefined,
    finish: undefined,
    usage: undefined,
  }
  t.same(chunk({}), empty)
  t.same(deltaOf('{"choices": []}'), empty)
  t.same(deltaOf('null'), empty)
  const top = [
    { token: 'b', logprob: -0.5, top: [] },
    { token: 'a', logprob: -1, top: [] },
  ]
  const logprobs = {
    tokens: ['a', 'c'],
    token_logprobs: [-1, null],
    top_logprobs: [{ a: -1, b: -0.5 }, null],
    text_offset: [0, 1],
  }
  t.same(chunk({ text: 'ac', logprobs, finish_reason: 'length' }), {
    ...empty,
    text: 'ac',
    scores: [{ token: 'a', logprob: -1, top }],
    finish: 'length',
  })
  const content = [{ token: 'a', logprob: -1, bytes: [97], top_logprobs: top }]
  t.same(chunk({ delta: { content: 'a', reasoning_content: 'b' }, logprobs: { content } }), {
    ...empty,
    text: 'a',
    thought: 'b',
    scores: [{ token: 'a', logprob: -1, top }],
  })
  const call = { index: 1, function: { name: 'f', arguments: '{' } }
  t.same(chunk({ delta: { tool_calls: [call, {}] } }).calls, [
    { index: 1, name: 'f', args: '{' },
    { index: 0, name: '', args: '' },
  ])
  const usage = { prompt_tokens: 3, completion_tokens: 4 }
  t.same(chunk({}, { usage }).usage, {
    promptTokens: 3,
    tokens: 4,
    ffnExpertsPerToken: undefined,
  })
  t.equal(
    chunk({}, { usage: { ...usage, ffn_experts_per_token: 1.5 } }).usage?.ffnExpertsPerToken,
    1.5,
  )
})

t.test('the routing of a chunk', async t => {
  const routing = { first: 3, prompt_tokens: 5, ffn_experts: [1, 0.5, null] }
  t.same(chunk({ text: 'a', routing }).routing, {
    first: 3,
    promptTokens: 5,
    ffnExperts: [1, 0.5],
  })
  t.equal(chunk({ text: 'a', routing: null }).routing, undefined)
})

t.test('errors in a stream', async t => {
  t.throws(() => deltaOf('{"error": {"message": "The device failed."}}'), {
    message: 'The device failed.',
  })
  t.throws(() => deltaOf('{"error": "plain"}'), { message: 'plain' })
  t.throws(() => deltaOf('{"error": {}}'), { message: 'The server reports an error.' })
  t.throws(() => deltaOf('{'), { message: 'The server sent an event that is no JSON: {' })
})
