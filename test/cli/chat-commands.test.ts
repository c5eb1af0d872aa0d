/** Commands of `moepp chat`, its settings, and conversations in files. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type ChatState, parseEntry, runCommand } from '../../lib/cli/chat-commands.js'
import { Conversation } from '../../lib/cli/conversation.js'
import { resolveGenerateOptions } from '../../lib/options/generate.js'
import type { ChatMessage } from '../../lib/template/messages.js'

const TOOL = { type: 'function', function: { name: 'weather', parameters: { type: 'object' } } }
const ASKED = { role: 'user', content: 'How warm is it?' }
const ANSWER = { role: 'assistant', content: 'Warm.', reasoning: 'Hm.', tokenIds: [1, 2] }

function newState(): ChatState {
  return {
    conversation: new Conversation(),
    name: 'a-model',
    check: options => resolveGenerateOptions(options, {}, { vocabSize: 100 }),
    vocabSize: 100,
  }
}

/** Runs lines as a person types them. */
async function run(state: ChatState, ...lines: string[]): Promise<string | undefined> {
  let said: string | undefined
  for (const line of lines) {
    const parsed = parseEntry(line)
    if (!parsed || 'message' in parsed) throw new Error(`${line} is no command`)
    said = (await runCommand(state, parsed.command, parsed.argument)).say
  }
  return said
}

t.test('messages and commands', async t => {
  t.equal(parseEntry(' \n'), undefined)
  t.same(parseEntry('Hello /help'), { message: 'Hello /help' })
  t.same(parseEntry('//etc is a folder'), { message: '/etc is a folder' })
  t.same(parseEntry('/reset'), { command: 'reset', argument: '' })
  for (const line of ['/quit', '/exit', '/bye', '/q'])
    t.same(parseEntry(line), { command: 'quit', argument: '' })
  t.same(parseEntry('/system  You are\nterse. '), {
    command: 'system',
    argument: 'You are\nterse.',
  })
})

t.test('a wrong command changes nothing and says what was meant', async t => {
  const cases: [string, RegExp][] = [
    ['/rset', /^unknown command \/rset: did you mean \/reset\? \(\/\/ begins a message/],
    ['/clear', /did you mean \/reset\?/],
    ['/exit now', /^\/quit: takes nothing, got "now"/],
    ['/xyzzy', /\/help lists the commands/],
    ['/toString', /unknown command/],
    ['/reset now', /^\/reset: takes nothing, got "now"/],
    ['/save', /^\/save: expected FILE/],
    ['/unset', /^\/unset: expected NAME/],
    ['/retry', /there is no message to answer/],
    ['/set temprature 1', /^unknown setting temprature: did you mean temperature\?/],
    ['/set logprobs 5', /^unknown setting logprobs: expected one of maxNewTokens, /],
    ['/set temperature -1', /^temperature: expected a finite number >= 0, got -1/],
    ['/set top-k many', /^topK: expected an integer >= 0, got "many"/],
    ['/set tool-choice required', /^toolChoice: required needs tools/],
    ['/set tool-choice weather', /^toolChoice.name: expected one of/],
    ['/set template. 1', /expected a name after the point/],
    ['/load /does/not/exist', /no such file/],
    ['/tools /does/not/exist', /no such file/],
  ]
  for (const [line, message] of cases) {
    const state = newState()
    await t.rejects(run(state, line), { message }, line)
    t.same(state.conversation.settings, {})
  }
})

t.test('settings', async t => {
  const state = newState()
  const { conversation } = state
  t.match(await run(state, '/set'), /^no option is set. There are maxNewTokens, /)
  await run(state, '/set temperature 0.7', '/set top-p 0.9', '/set TOP_K 5', '/set stop END')
  await run(state, '/set stopTokenIds [1, 2]', '/set template.enable_thinking false')
  t.same(conversation.settings, {
    temperature: 0.7,
    topP: 0.9,
    topK: 5,
    stop: 'END',
    stopTokenIds: [1, 2],
    templateVariables: { enable_thinking: false },
  })
  t.equal(
    await run(state, '/set template.date 12 May'),
    [
      'temperature 0.7',
      'topP 0.9',
      'topK 5',
      'stop "END"',
      'stopTokenIds [1,2]',
      'template.enable_thinking false',
      'template.date "12 May"',
    ].join('\n'),
  )
  await run(state, '/unset temperature', '/unset template.date', '/unset stop', '/unset topK')
  await run(state, '/unset top-p', '/unset stop-token-ids')
  t.same(conversation.settings, { templateVariables: { enable_thinking: false } })
  t.equal(await run(state, '/system'), 'there is no system message')
  t.equal(await run(state, '/system Be terse.'), 'Be terse.')
  conversation.add(ASKED)
  t.same(conversation.prompt, [{ role: 'system', content: 'Be terse.' }, ASKED])
  await run(state, '/reset')
  t.same(conversation.prompt, [{ role: 'system', content: 'Be terse.' }])
  await run(state, '/unset system')
  t.same(conversation.prompt, [])
})

t.test('retry takes the answer away', async t => {
  const { conversation, ...rest } = newState()
  const state = { conversation, ...rest }
  conversation.messages = [ASKED, ANSWER]
  t.same(await runCommand(state, 'retry', ''), { next: 'answer' })
  t.same(conversation.messages, [ASKED])
  t.same(await runCommand(state, 'retry', ''), { next: 'answer' })
  t.same(conversation.messages, [ASKED])
})

t.test('tools', async t => {
  const folder = t.testdir({
    'tools.json': JSON.stringify([TOOL, { any: 'form' }]),
    'wrong.json': '{"name": "x"}',
    'items.json': '[1]',
  })
  const state = newState()
  t.equal(await run(state, '/tools'), 'there are no tools')
  t.equal(await run(state, `/tools ${join(folder, 'tools.json')}`), 'weather\nan object')
  await run(state, '/set tool-choice weather')
  t.same(state.conversation.settings, {
    tools: [TOOL, { any: 'form' }],
    toolChoice: { name: 'weather' },
  })
  await t.rejects(run(state, '/unset tools'), { message: /toolChoice/ }, 'a choice needs them')
  await run(state, '/unset tool-choice', '/unset tools')
  t.same(state.conversation.settings, {})
  for (const [file, message] of [
    ['wrong.json', /wrong.json: tools: expected an array of tools, got an object/],
    ['items.json', /items.json: tools\[0\]: expected an object, got 1/],
  ] as const)
    await t.rejects(run(state, `/tools ${join(folder, file)}`), { code: 'ERR_BAD_FILE', message })
})

t.test('a saved conversation comes back as it was', async t => {
  const file = join(t.testdir(), 'chat.json')
  const state = newState()
  const { conversation } = state
  conversation.system = 'Be terse.'
  conversation.messages = [ASKED, ANSWER, ASKED]
  conversation.settings = { temperature: 0.5, logitBias: { 5: Number.NEGATIVE_INFINITY, 6: 1 } }
  t.equal(await run(state, `/save ${file}`), `3 messages saved in ${file}`)
  t.equal(JSON.parse(readFileSync(file, 'utf8')).model, 'a-model')
  const other = newState()
  t.equal(await run(other, `/load ${file}`), `3 messages of ${file}; /retry answers the last one`)
  for (const name of ['system', 'messages', 'settings'] as const)
    t.strictSame(other.conversation[name], conversation[name])
  await t.rejects(run(state, `/save ${file}`), {
    code: 'ERR_CANNOT_WRITE',
    message: `${file}: is there already; /save! overwrites it`,
  })
  conversation.messages = []
  t.equal(await run(state, `/save! ${file}`), `0 messages saved in ${file}`)
  await t.rejects(run(state, `/save ${join(file, 'x')}`), { code: 'ERR_CANNOT_WRITE' })
})

t.test('a file of another program', async t => {
  const file = join(t.testdir(), 'chat.json')
  const state = newState()
  writeFileSync(file, JSON.stringify({ messages: [{ role: 'system', content: 'x' }, ASKED] }))
  await run(state, `/load ${file}`)
  t.equal(state.conversation.system, 'x')
  t.same(state.conversation.messages, [ASKED])
  state.conversation.settings = { topK: 5 }
  writeFileSync(file, JSON.stringify([ASKED, ANSWER]))
  t.equal(await run(state, `/load ${file}`), `2 messages of ${file}`)
  t.equal(state.conversation.system, undefined)
  t.same(state.conversation.messages, [ASKED, ANSWER])
  t.same(state.conversation.settings, {})
})

t.test('a wrong file is named with its fault, and changes nothing', async t => {
  const file = join(t.testdir(), 'chat.json')
  const state = newState()
  state.conversation.messages = [ASKED]
  const cases: [string, RegExp][] = [
    ['', /not valid JSON/],
    ['5', /chat.json: expected a conversation or an array of messages, got 5/],
    ['[5]', /messages\[0\]: expected a message, got 5/],
    ['[{"content": "x"}]', /messages\[0\].role: expected/],
    [
      '[{"role": "assistant", "tokenIds": [99, 100]}]',
      /messages\[0\].tokenIds\[1\]: expected a token id from 0 to 99, got 100/,
    ],
    ['{"messages": [], "messages": []}', /occurs twice/],
    ['{"mesages": []}', /expected the fields model, system, messages, settings, got "mesages"/],
    ['{"messages": 5}', /messages: expected an array of messages, got 5/],
    ['{"messages": [{"content": "x"}]}', /messages\[0\].role: expected/],
    ['{"messages": [{"role": "user", "content": 5}]}', /messages\[0\].content: expected/],
    ['{"messages": [{"role": "assistant", "tokenIds": [-1]}]}', /messages\[0\].tokenIds/],
    ['{"system": 5}', /system: expected a string, got 5/],
    [
      '{"system": "x", "messages": [{"role": "system", "content": "y"}]}',
      /messages\[0\]: expected no second system message/,
    ],
    ['{"settings": []}', /settings: expected an object, got \[\]/],
    ['{"settings": {"temperature": "hot"}}', /settings.temperature: expected/],
    ['{"settings": {"signal": 1}}', /settings: unknown setting "signal"/],
    ['{"settings": {"__proto__": 1}}', /settings: unknown setting "__proto__"/],
    ['{"settings": {"logitBias": {"5": "x"}}}', /settings.logitBias\[5\]: expected/],
    ['{"settings": {"tools": [5]}}', /settings.tools\[0\]: expected/],
    ['{"settings": {"templateVariables": 5}}', /settings.templateVariables: expected/],
  ]
  for (const [text, message] of cases) {
    writeFileSync(file, text)
    await t.rejects(run(state, `/load ${file}`), { code: 'ERR_BAD_FILE', message }, text)
    t.same(state.conversation.messages, [ASKED])
  }
})

t.test('whose turn it is', async t => {
  const conversation = new Conversation()
  t.equal(conversation.awaitsAnswer, false)
  const calls = [
    { name: 'a', arguments: {} },
    { name: 'b', arguments: {} },
  ]
  const steps: [ChatMessage, boolean][] = [
    [{ role: 'system' }, false],
    [{ role: 'user' }, true],
    [{ role: 'assistant', toolCalls: calls }, false],
    [{ role: 'tool' }, false],
    [{ role: 'tool' }, true],
    [{ role: 'tool' }, true],
    [{ role: 'assistant' }, false],
    [{ role: 'tool' }, true],
    [{ role: 'assistant', tool_calls: calls }, false],
    [{ role: 'tool' }, false],
    [{ role: 'tool' }, true],
  ]
  for (const [message, expected] of steps) {
    conversation.add(message)
    t.equal(conversation.awaitsAnswer, expected, message.role)
  }
})
