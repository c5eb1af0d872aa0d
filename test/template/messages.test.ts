/** Messages, tools and options: what a template gets of them, and what is refused. */
import t from 'tap'
import type { ChatMessage, ChatTemplateOptions, ToolCall } from '../../lib/index.js'
import { ChatTemplate } from '../../lib/template/chat-template.js'

const show = '{{ messages | tojson }}|{{ tools | tojson }}|{{ add_generation_prompt }}'

function template(source: string | Record<string, string>): ChatTemplate {
  const named = typeof source === 'string' ? { default: source } : source
  const tokens = { bos_token: '<s>', eos_token: undefined }
  return new ChatTemplate({ templates: new Map(Object.entries(named)), file: 'f', tokens })
}

const render = (messages: unknown, options?: unknown, source = show): Promise<string> =>
  template(source).render(messages as ChatMessage[], options as ChatTemplateOptions)

t.test('names that templates know', async t => {
  const toolCalls: ToolCall[] = [
    { name: 'f', arguments: { x: 1 } },
    { name: 'g', arguments: 'no JSON', id: 'c1', invalid: 'not JSON' },
  ]
  const message: ChatMessage = {
    role: 'assistant',
    content: null,
    reasoning: 'R',
    toolCalls,
    tokenIds: [1, 2],
    extra: { deep: [true] },
    absent: undefined,
  }
  const calls =
    '[{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}, ' +
    '{"id": "c1", "type": "function", "function": {"name": "g", "arguments": "no JSON"}}]'
  t.equal(
    await render([message]),
    '[{"role": "assistant", "content": null, "reasoning_content": "R", ' +
      `"tool_calls": ${calls}, "extra": {"deep": [true]}}]|null|False`,
  )
  const answer = { role: 'tool', content: [{ type: 'text' }], toolCallId: 'c1', name: 'g' }
  t.equal(
    await render([answer], { tools: [], addGenerationPrompt: true }),
    '[{"role": "tool", "content": [{"type": "text"}], "tool_call_id": "c1", "name": "g"}]|[]|True',
  )
  const theirs = { role: 'tool', tool_call_id: 'c1', tool_calls: [], reasoning_content: null }
  t.equal(
    await render([theirs]),
    `[${'{"role": "tool", "tool_call_id": "c1", "tool_calls": [], '}\
"reasoning_content": null}]|null|False`,
  )
})

t.test('variables', async t => {
  const source = '{{ bos_token }}{{ eos_token is defined }}{{ x }}{{ documents is none }}{{ date }}'
  t.equal(await render([], { x: 3, date: undefined }, source), '<s>False3True')
  t.equal(await render([], { bos_token: 'B', documents: [] }, source), 'BFalseFalse')
  t.equal(await render([], { add_generation_prompt: true }), '[]|null|True')
  t.equal(await render([], { range: 5, namespace: 6 }, '{{ range }}{{ namespace }}'), '56')
  const today = await render([], {}, "{{ strftime_now('%A, %-d %B %Y; %a %b; %F %T %%') }}")
  const words = /^[A-Z][a-z]+day, [1-9]\d? [A-Z][a-z]+ 2\d{3}; [A-Z][a-z]{2} [A-Z][a-z]{2}; /
  t.match(today, words)
  t.match(today, /; 2\d{3}-\d\d-\d\d \d\d:\d\d:\d\d %$/)
})

t.test('wrong messages', async t => {
  const user = { role: 'user', content: 'Hi' }
  const call = { name: 'f', arguments: {} }
  const cycle: Record<string, unknown> = {}
  cycle.self = cycle
  const wrong: readonly [messages: unknown, message: string][] = [
    ['Hi', 'messages: expected an array of messages, got "Hi"'],
    [['Hi'], 'messages[0]: expected a message, got "Hi"'],
    [[user, user, { role: 3 }], 'messages[2].role: expected a string that is not empty, got 3'],
    [[{ ...user, content: 3 }], 'messages[0].content: expected a string, null or a list of parts'],
    [[{ ...user, content: ['a'] }], 'messages[0].content: expected'],
    [[{ ...user, reasoning: 1 }], 'messages[0].reasoning: expected a string, got 1'],
    [[{ ...user, toolCallId: 1 }], 'messages[0].toolCallId: expected a string, got 1'],
    [[{ ...user, name: 1 }], 'messages[0].name: expected a string, got 1'],
    [[{ ...user, tokenIds: [1.5] }], 'messages[0].tokenIds: expected an array of token ids'],
    [[{ ...user, toolCalls: call }], 'messages[0].toolCalls: expected an array of tool calls'],
    [[{ ...user, toolCalls: [{ ...call, name: 1 }] }], 'messages[0].toolCalls[0].name: expected'],
    [[{ ...user, toolCalls: [{ ...call, id: 1 }] }], 'messages[0].toolCalls[0].id: expected'],
    [[{ ...user, toolCalls: [{ name: 'f' }] }], 'messages[0].toolCalls[0].arguments: expected'],
    [[{ ...user, reasoning: 'a', reasoning_content: 'b' }], 'messages[0]: expected reasoning or'],
    [
      [{ ...user, f: () => 1 }],
      'messages[0].f: expected plain data, as JSON has it, got a function',
    ],
    [[{ ...user, a: [{ 'b c': 1n }] }], 'messages[0].a[0]["b c"]: expected plain data'],
    [[{ ...user, a: new Date() }], 'messages[0].a: expected plain data, got an object of a class'],
    [[{ ...user, a: Number.NaN }], 'messages[0].a: expected plain data'],
    [[{ ...user, a: [undefined] }], 'messages[0].a[0]: expected plain data'],
    [[{ ...user, a: cycle }], 'messages[0].a.self: expected plain data, got an object that'],
  ]
  for (const [messages, message] of wrong) {
    const error: Error = await render(messages).then(
      () => new Error('rendered'),
      error => error,
    )
    t.type(error, TypeError, message)
    t.equal(error.message.slice(0, message.length), message)
  }
})

t.test('too much', async t => {
  const nested = (levels: number): unknown => (levels === 0 ? 1 : [nested(levels - 1)])
  const message = (x: unknown) => [{ role: 'user', content: '', x }]
  await t.rejects(render(message(nested(200))), { message: /nested deeper than 100 levels/ })
  await t.resolves(render(message(nested(90))))
  const long = 'a'.repeat(4_000_001)
  await t.rejects(render(message([long, long])), { message: /at most 8000000 characters/ })
  const many = new Array(1_000_001).fill(0)
  await t.rejects(render(message(many)), { message: /at most 1000000 values/ })
})

t.test('wrong options', async t => {
  const wrong: readonly [options: unknown, message: RegExp][] = [
    [3, /^options: expected an object, got 3/],
    [{ tools: {} }, /^tools: expected an array of tools/],
    [{ tools: ['f'] }, /^tools\[0\]: expected an object, got "f"/],
    [{ addGenerationPrompt: 1 }, /^addGenerationPrompt: expected true or false/],
    [{ addGenerationPrompt: true, add_generation_prompt: true }, /^addGenerationPrompt: got/],
    [{ templateName: 1 }, /^templateName: expected a string/],
    [{ messages: [] }, /^options\.messages: expected none/],
    [{ x: () => 1 }, /^options\.x: expected plain data/],
  ]
  for (const [options, message] of wrong) {
    await t.rejects(render([], options), { name: 'TypeError', message }, String(message))
  }
})

t.test('several templates', async t => {
  const named = template({ default: 'D', tool_use: 'T', other: 'O' })
  t.equal(await named.render([]), 'D')
  t.equal(await named.render([], { tools: [] }), 'T')
  t.equal(await named.render([], { tools: [], templateName: 'default' }), 'D')
  t.equal(await named.render([], { templateName: 'other' }), 'O')
  await t.rejects(named.render([], { templateName: 'x' }), {
    name: 'RangeError',
    message: 'templateName: expected one of "default", "tool_use", "other", got "x"',
  })
  await t.rejects(template({ other: 'O' }).render([]), {
    code: 'ERR_NO_CHAT_TEMPLATE',
    message: 'f: has no default chat template. Set templateName: "other"',
  })
})

t.test('several conversations in one round trip', async t => {
  const shown = template('{{ messages | length }}{{ x }}')
  const messages = [{ role: 'user', content: '' }]
  t.strictSame(await shown.renderEach([{ messages: [] }, { messages, options: { x: 1 } }]), [
    '0',
    '11',
  ])
  t.strictSame(await shown.renderEach([]), [])
})
