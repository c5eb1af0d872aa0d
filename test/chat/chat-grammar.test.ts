/** Answers that follow a grammar, after free thoughts; calls of tools that are forced. */
import t from 'tap'
import { type ChatMessage, type ChatTool, loadModel } from '../../lib/index.js'
import { chatCheckpoint } from '../support/chat-checkpoint.js'

const model = await loadModel(chatCheckpoint(t.testdir()), { kvCacheTokens: 4096 })
t.teardown(() => model.close())

const USER: ChatMessage = { role: 'user', content: 'How warm is it?' }
const tool = (name: string, parameters: object): ChatTool => ({
  type: 'function',
  function: { name, description: '', parameters: { type: 'object', ...parameters } },
})
const TOOLS = [
  tool('weather', {
    properties: { unit: { enum: ['C', 'F'] }, days: { type: 'integer', minimum: 1, maximum: 9 } },
    required: ['unit', 'days'],
    additionalProperties: false,
  }),
  tool('say "hi"', {
    properties: { loud: { type: 'boolean' } },
    required: ['loud'],
    additionalProperties: false,
  }),
]
const NO_THOUGHTS = { templateVariables: { enable_thinking: false } }
const random = (seed: number) => ({ temperature: 20, topK: 0, seed, maxNewTokens: 400 })

t.test('toolChoice required: random tokens make calls', async t => {
  const called = new Set<string>()
  for (let seed = 0; seed < 3; seed++) {
    const options = {
      ...random(seed),
      ...NO_THOUGHTS,
      tools: TOOLS,
      toolChoice: 'required',
    } as const
    const { message, finishReason, text } = await model.chat([USER], options)
    if (finishReason === 'length') continue
    t.equal(message.content, '', text)
    t.ok(message.toolCalls && message.toolCalls.length > 0, text)
    for (const { name, arguments: given, invalid } of message.toolCalls ?? []) {
      t.equal(invalid, undefined, text)
      called.add(name)
      if (name === 'weather') t.match(given, { unit: /^[CF]$/, days: Number })
      else t.match(given, { loud: Boolean })
    }
  }
  t.strictSame([...called].sort(), ['say "hi"', 'weather'])
})

t.test('toolChoice by name: one call of it', async t => {
  for (let seed = 0; seed < 2; seed++) {
    const toolChoice = { name: 'weather' }
    const options = { ...random(seed), ...NO_THOUGHTS, tools: TOOLS, toolChoice }
    const { message, finishReason } = await model.chat([USER], options)
    t.equal(finishReason, 'stop')
    t.match(message.toolCalls, [{ name: 'weather', arguments: { unit: /^[CF]$/ } }])
    t.equal(message.toolCalls?.length, 1)
  }
})

t.test('thoughts are free, the answer is not', async t => {
  const { tokenizer } = model
  const thoughts = tokenizer.encode('<think>\nIt may be <b>warm</b>.\n</think>\n\n')
  let at = 0
  const { message } = await model.chat([USER], {
    ...random(1),
    grammar: { regex: 'yes|no' },
    logits: logits => {
      const id = thoughts[at++]
      if (id !== undefined) logits.fill(-100).fill(100, id, id + 1)
    },
  })
  t.equal(message.reasoning, 'It may be <b>warm</b>.')
  t.match(message.content, /^(yes|no)$/)
})

t.test('a grammar of the content', async t => {
  const schema = { type: 'object', properties: { a: { type: 'boolean' } }, required: ['a'] }
  const grammar = { jsonSchema: { ...schema, additionalProperties: false } }
  const options = { ...random(3), ...NO_THOUGHTS, grammar }
  const { message } = await model.chat([USER], options)
  t.match(JSON.parse(message.content), { a: Boolean })
  const again = await model.chat([USER], options)
  t.strictSame(again.tokenIds, message.tokenIds.concat(again.tokenIds.slice(-1)), 'a seed holds')
  const stream = model.streamChat([USER], options)
  let content = ''
  for await (const chunk of stream) content += chunk.content ?? ''
  t.equal(content, message.content)
})

t.test('what cannot be forced', async t => {
  const forced = { tools: TOOLS, toolChoice: 'required' } as const
  await t.rejects(
    model.chat([USER], { ...forced, grammar: { regex: 'a' } }),
    /^grammar: toolChoice/,
  )
  const odd = [{ type: 'function', function: { parameters: {} } }]
  await t.rejects(model.chat([USER], { ...forced, tools: odd as never }), /^tools\[0\]: expected/)
  const unsupported = [tool('f', { not: {} })]
  await t.rejects(model.chat([USER], { ...forced, tools: unsupported }), {
    code: 'ERR_BAD_GRAMMAR',
    message: /^tools\[0\]\.function\.parameters\.not: /,
  })
  const plain = await loadModel(
    chatCheckpoint(t.testdir(), { template: '{{ messages[0].content }}{{ tools }}' }),
  )
  await t.rejects(plain.chat([USER], forced), { code: 'ERR_UNSUPPORTED', message: /toolChoice/ })
  await plain.close()
})

t.test('a grammar is one of the content, whatever marks it holds', async t => {
  const grammar = { regex: '<tool_call>[a-c]{3}' }
  const options = { tools: TOOLS, grammar, templateVariables: { enable_thinking: false } }
  const { message } = await model.chat([USER], { ...options, temperature: 2, seed: 1 })
  t.match(message.content, /^<tool_call>[a-c]{3}$/)
  t.notOk(message.toolCalls)
  const bad = { jsonSchema: { type: 'object', not: {} } }
  await t.rejects(model.chat([USER], { grammar: bad }), {
    code: 'ERR_BAD_GRAMMAR',
    message: /^grammar\.jsonSchema\.not: /,
  })
})
