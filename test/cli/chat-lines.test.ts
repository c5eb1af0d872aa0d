/** `moepp chat` with a program: JSON Lines, and a real model of random weights. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import t from 'tap'
import { run } from '../../lib/cli/run.js'
import { Terminal } from '../../lib/cli/terminal.js'
import { loadModel } from '../../lib/index.js'
import { chatCheckpoint } from '../support/chat-checkpoint.js'
import { BOOKS } from './run-cli.js'
import { type Here, runHere } from './run-here.js'

const checkpoint = chatCheckpoint(t.testdir())
const MODEL = ['--model', checkpoint, '--device', 'cpu', '--max-new-tokens', '4']

async function chat(lines: readonly unknown[], args: readonly string[] = [], here: Here = {}) {
  const input = lines.map(line => `${JSON.stringify(line)}\n`).join('')
  const { code, stdout, stderr } = await runHere(['chat', ...MODEL, ...args], { input, ...here })
  return { code, answers: documents(stdout), stderr }
}

/** Of JSON Lines. */
function documents(text: string) {
  const lines = text.split('\n').filter(Boolean)
  return lines.map(line => JSON.parse(line))
}

t.test('the answers of the library, one a line', async t => {
  const { code, answers, stderr } = await chat([
    'Hello',
    { role: 'user', content: 'And?' },
    { reset: true },
    { role: 'system', content: 'Be terse.' },
    'Hello',
  ])
  t.equal(code, 0)
  t.equal(stderr, '')
  t.equal(answers.length, 3)
  await using model = await loadModel(checkpoint, { device: 'cpu' })
  const options = { maxNewTokens: 4, routing: 'computed' } as const
  const asked = { role: 'user', content: 'Hello' }
  const first = await model.chat([asked], options)
  const second = await model.chat(
    [asked, first.message, { role: 'user', content: 'And?' }],
    options,
  )
  const third = await model.chat([{ role: 'system', content: 'Be terse.' }, asked], options)
  for (const [i, { message, finishReason, usage, routing }] of [first, second, third].entries()) {
    const { ffnExpertsPerToken } = routing!
    const { promptTokens, generatedTokens } = usage
    t.match(answers[i], { message, finishReason, ffnExpertsPerToken }, `answer ${i + 1}`)
    t.match(answers[i].usage, { promptTokens, generatedTokens })
    t.ok(answers[i].timings.decodeTokensPerSecond > 0)
    t.notOk('routing' in answers[i])
  }
})

t.test('flags: system, sampling, template, data', async t => {
  const flags = ['--system', 'Be terse.', '--temperature', '0.9', '--seed', '5', '--json']
  const { answers } = await chat(
    ['Hello'],
    [...flags, '--template-variable', 'enable_thinking=false', '--logprobs', '2', '--routing'],
  )
  await using model = await loadModel(checkpoint, { device: 'cpu' })
  const { message } = await model.chat(
    [
      { role: 'system', content: 'Be terse.' },
      { role: 'user', content: 'Hello' },
    ],
    {
      temperature: 0.9,
      seed: 5,
      maxNewTokens: 4,
      templateVariables: { enable_thinking: false },
    },
  )
  t.strictSame(answers[0].message, message)
  t.equal(answers[0].logprobs.length, 4)
  t.equal(answers[0].logprobs[0].top.length, 2)
  t.equal(answers[0].routing.layers.length, 2)
})

t.test('a saved conversation goes on, and flags replace what is saved', async t => {
  const file = join(t.testdir(), 'chat.json')
  const messages = [
    { role: 'user', content: 'Hello' },
    { role: 'assistant', content: 'Hello.' },
  ]
  writeFileSync(
    file,
    JSON.stringify({ system: 'Be terse.', messages, settings: { maxNewTokens: 2 } }),
  )
  const promptTokens = async (args: string[]) => {
    const { answers } = await chat(['And?'], args)
    t.equal(answers[0].usage.generatedTokens, 4, 'the flag of the command line')
    return answers[0].usage.promptTokens
  }
  const long = await promptTokens(['--load', file, '--system', 'Be terse. Be very terse.'])
  const saved = await promptTokens(['--load', file])
  const fresh = await promptTokens([])
  t.ok(long > saved && saved > fresh, `${long} > ${saved} > ${fresh}`)
})

t.test('a line that fails is taken back, and the others are answered', async t => {
  const lines = [
    '{"role": "user", "content": "Hello"}',
    'Hello',
    '5',
    '{"content": "x"}',
    '{"role": "user", "content": 5}',
    '{"reset": false}',
    '{"reset": true, "role": "user"}',
    '{"role": "user", "content": "x", "tokenIds": "x"}',
    '',
    '{"role": "user", "content": "And?"}',
  ]
  const { code, stdout } = await runHere(['chat', ...MODEL], { input: lines.join('\n') })
  t.equal(code, 1)
  const answers = documents(stdout)
  t.match(answers, [
    { message: { role: 'assistant' } },
    { error: { line: 2, code: 'ERR_BAD_FILE', message: /^expected a message: not valid JSON/ } },
    { error: { line: 3, message: 'expected a string or a message with a role, got 5' } },
    { error: { line: 4, message: /^role: expected/ } },
    { error: { line: 5, message: /^content: expected/ } },
    { error: { line: 6, message: 'expected {"reset": true} and no other field' } },
    { error: { line: 7 } },
    { error: { line: 8, message: /^tokenIds: expected/ } },
    { message: { role: 'assistant' } },
  ])
  t.equal(answers.length, 9)
  const two = await chat(['Hello', 'And?'])
  t.strictSame(answers.at(-1).message, two.answers[1].message, 'as if they had not been')
})

t.test('a whole conversation in one line', async t => {
  const asked = { role: 'user', content: 'Hello' }
  const system = { role: 'system', content: 'Be terse.' }
  const answer = { role: 'assistant', content: 'Hello.' }
  const file = join(t.testdir(), 'chat.json')
  writeFileSync(file, JSON.stringify([system, asked, answer]))
  const wrong = [
    { messages: 5 },
    { messages: [{ role: 'user', content: 5 }] },
    { messages: [], model: 'x' },
    { messages: [system, { ...answer, tokenIds: [2014] }, asked] },
    {
      messages: [
        { ...system, content: 'Sing.' },
        { ...asked, content: 'long '.repeat(100) },
      ],
    },
    { ...answer, tokenIds: [1, 2014] },
  ]
  const lines = [
    'One',
    { messages: [system, asked] },
    ...wrong,
    'And?',
    { messages: [asked, answer] },
  ]
  const args = ['--context-length', '100', '--system', 'Shout.']
  const { code, answers } = await chat([...lines, 'And?'], args)
  t.equal(code, 1)
  t.match(answers.slice(2, 8), [
    { error: { line: 3, message: 'messages: expected an array of messages, got 5' } },
    { error: { line: 4, message: /^messages\[0\].content: expected/ } },
    { error: { line: 5, message: 'expected {"messages": [...]} and no other field' } },
    { error: { line: 6, message: /^messages\[1\].tokenIds\[0\]: .* 0 to 2013, got 2014/ } },
    { error: { line: 7, code: 'ERR_BAD_PROMPT' } },
    { error: { line: 8, message: /^tokenIds\[1\]: .* 0 to 2013, got 2014/ } },
  ])
  t.equal(answers.length, 10, 'one that ends with an answer gets none')
  const direct = await chat([system, asked, 'And?'])
  t.strictSame(answers[1].message, direct.answers[0].message)
  t.strictSame(answers[8].message, direct.answers[1].message, 'as if the wrong had not been')
  t.equal(answers[8].usage.promptTokens, direct.answers[1].usage.promptTokens)
  const short = await chat(['And?'], ['--load', file])
  t.strictSame(answers[9].message, short.answers[0].message)
  t.equal(answers[9].usage.promptTokens, short.answers[0].usage.promptTokens, 'system stays')
})

t.test('a conversation that fills the context', async t => {
  const { code, answers } = await chat(
    ['Hello', 'long '.repeat(100), { reset: true }, 'Hello'],
    ['--context-length', '40'],
  )
  t.equal(code, 1)
  t.match(answers, [
    { message: {} },
    { error: { line: 2, code: 'ERR_BAD_PROMPT', message: /the context holds 40/ } },
    { message: {} },
  ])
  t.strictSame(answers[2].message, answers[0].message)
})

t.test('each answer comes before the next line is read', async t => {
  const [input, stdout] = [new PassThrough(), new PassThrough()]
  const isTerminal = { stdout: false, stderr: false }
  const terminal = new Terminal({ stdin: input, stdout, stderr: new PassThrough(), isTerminal }, {})
  const code = run(['chat', ...MODEL], terminal)
  for (const _ of [1, 2, 3]) {
    input.write('"Hello"\n')
    const line = await new Promise(resolve => stdout.once('data', resolve))
    t.match(JSON.parse(String(line)), { message: { role: 'assistant' } })
  }
  input.end()
  t.equal(await code, 0)
})

t.test('the KV cache in a file', async t => {
  const state = join(t.testdir(), 'chat.kv')
  const first = { role: 'user', content: 'Hello' }
  // An answer of whole characters: its tokens can stand in the next prompt.
  const { answers, stderr } = await chat(
    [first],
    ['--temperature', '1', '--seed', '3', '--save-state', state],
  )
  const { usage, message } = answers[0]
  const tokens = usage.promptTokens + usage.generatedTokens
  t.match(stderr, new RegExp(`^moepp: ${tokens} tokens saved in .*chat.kv \\(.*B\\)\n$`))
  const saved = `${state}.json`
  writeFileSync(saved, JSON.stringify({ messages: [first, message] }))
  const args = ['--load', saved, '--load-state', state]
  const next = await chat(['And?'], args)
  t.match(next.stderr, `moepp: ${tokens} tokens of ${state} in the KV cache\n`)
  t.equal(next.answers[0].usage.cachedTokens, tokens)
  const plain = await chat(['And?'], ['--load', saved])
  t.strictSame(next.answers[0].message, plain.answers[0].message)
  const none = await chat([], ['--save-state', state])
  t.match(none.stderr, /no message, no state/)
  const missing = await chat(['x'], ['--load-state', `${state}.none`])
  t.match(missing, { code: 1, answers: [], stderr: /ERR_NOT_FOUND/ })
  const wrong = await chat(['x'], ['--load-state', saved])
  t.match(wrong, { code: 1, answers: [], stderr: /ERR_BAD_STATE/ })
  const folder = await chat(['x'], ['--save-state', join(state, 'x', 'y')])
  t.match(folder, { code: 2, answers: [], stderr: /--save-state: .*: no such folder/ })
})

t.test('a call of a tool, and the answer after its result', async t => {
  const tools = join(t.testdir(), 'tools.json')
  const parameters = {
    type: 'object',
    properties: { loud: { type: 'boolean' } },
    required: ['loud'],
    additionalProperties: false,
  }
  writeFileSync(
    tools,
    JSON.stringify([{ type: 'function', function: { name: 'ring', parameters } }]),
  )
  const result = { role: 'tool', name: 'ring', content: 'It rang.' }
  const { answers } = await chat(
    ['Ring!', result],
    [
      ...['--tools', tools, '--tool-choice', 'ring', '--max-new-tokens', '400', '--seed', '2'],
      ...['--temperature', '1', '--template-variable', 'enable_thinking=false'],
    ],
  )
  t.equal(answers.length, 2)
  t.match(answers[0].message.toolCalls, [{ name: 'ring', arguments: { loud: Boolean } }])
  t.match(answers[1], { message: { role: 'assistant' } })
})

t.test('no input, no answer', async t => {
  t.same(await chat([]), { code: 0, answers: [], stderr: '' })
})

t.test('a base model is refused before its weights are read', async t => {
  const expected = `moepp: ERR_NO_CHAT_TEMPLATE: ${BOOKS} is a base model: it has no chat template. To continue a text: moepp generate --model ${BOOKS}\n`
  t.same(await runHere(['chat', '--model', BOOKS], { input: '"Hello"' }), {
    code: 1,
    stdout: '',
    stderr: expected,
  })
})

t.test('a wrong command line', async t => {
  const folder = t.testdir({ 'tools.json': '{}' })
  const cases: [string[], RegExp, number][] = [
    [['--template-variable', 'x'], /Expected a name and a value, like enable_thinking=false/, 2],
    [['--temperature', '-1'], /^moepp: --temperature: expected/, 2],
    [['--tool-choice', 'required'], /^moepp: --tool-choice: required needs tools/, 2],
    [['--num-return-sequences', '2'], /unknown option '--num-return-sequences'/, 2],
    [['--split-special-tokens'], /unknown option/, 2],
    [['--min-new-tokens', '5'], /^moepp: --min-new-tokens: expected at most maxNewTokens/, 2],
    [['--tools', join(folder, 'tools.json')], /ERR_BAD_FILE: .*tools: expected an array/, 1],
    [['--load', join(folder, 'none.json')], /ERR_NOT_FOUND: .*none.json: no such file/, 1],
  ]
  for (const [args, message, expected] of cases) {
    const { code, answers, stderr } = await chat(['Hello'], args)
    t.equal(code, expected, args.join(' '))
    t.same(answers, [])
    t.match(stderr, message)
  }
  const warned = await chat(['Hello'], ['--top-p', '0.5'])
  t.match(warned.stderr, /^moepp: warning: no effect without sampling: --top-p/)
  const isTerminal = { stdin: true, stdout: true, stderr: true }
  const plain = await chat([], ['--logprobs', '5'], { isTerminal })
  t.match(plain.stderr, /^moepp: --logprobs: plain text cannot show it; add --json\n$/)
  t.equal(plain.code, 2)
})
