/** `moepp chat` at a terminal: keys, answers, failures, and tools whose results are typed. */
import { join } from 'node:path'
import t from 'tap'
import { MoeppError } from '../../lib/errors.js'
import { KEY } from './screen.js'
import { start } from './stand-in-chat.js'

const FIGURES =
  'moepp: 10 prompt tokens (6 cached) at 400 tokens/s, 3 generated at 200 tokens/s, 1.5 of 2 FFN experts per token\n'

t.test('thoughts, text and figures', async t => {
  const chat = start([{ reasoning: 'Hm.\n', content: 'Warm\x1b[31m.' }, { content: 'Cold.\n' }])
  await chat.screen.until('> ')
  chat.type('Hello\r')
  t.equal(
    await chat.screen.until('> '),
    `Hello\r\n[thoughts]\nHm.\n[answer]\nWarm\\u001b[31m.\n${FIGURES}> `,
    'control characters are visible',
  )
  chat.type('And now?\r')
  t.equal(await chat.screen.until('> '), `And now?\r\nCold.\n${FIGURES}> `)
  chat.type('/quit\r')
  t.equal(await chat.code, 0)
  t.match(chat.model.asked, [[{ content: 'Hello' }], [{}, { reasoning: 'Hm.\n' }, {}]])
  t.match(chat.conversation.messages, [{}, { tokenIds: [1] }, {}, { content: 'Cold.\n' }])
})

t.test('what a command says is visible, too', async t => {
  const obeyed = '\x1b]0;x\x07\x9b31m\x7f\u202e'
  const file = join(
    t.testdir({
      'chat.json': JSON.stringify({
        system: `${obeyed}\nBe terse.`,
        settings: { templateVariables: { [`a${obeyed}`]: obeyed } },
      }),
      'tools.json': JSON.stringify([{ type: 'function', function: { name: `b${obeyed}` } }]),
    }),
    'chat.json',
  )
  const shown = '\\u001b]0;x\\u0007\\u009b31m\\u007f\\u202e'
  const chat = start([])
  await chat.screen.until('> ')
  chat.type(`/load ${file}\r`)
  await chat.screen.until(/\n> $/)
  for (const [line, said] of [
    ['/system', `${shown}\nBe terse.`],
    ['/set', `template.a${shown} "${shown}"`],
    [`/tools ${file.replace('chat.json', 'tools.json')}`, `b${shown}`],
  ]) {
    chat.type(`${line}\r`)
    t.equal(await chat.screen.until(/\n> $/), `${line}\r\n${said}\n> `)
  }
  chat.type(KEY.end)
  t.equal(await chat.code, 0)
})

t.test('thoughts are dim where there are colours', async t => {
  const chat = start([{ reasoning: 'Hm.', content: 'Warm.' }], {
    env: { NO_COLOR: undefined, FORCE_COLOR: '1' },
  })
  await chat.screen.until('> ')
  chat.type('Hello\r')
  t.match(await chat.screen.until('> '), 'Hello\r\nHm.\n\nWarm.\n')
  chat.type(KEY.end)
  t.equal(await chat.code, 0)
})

t.test('several lines: backslash, Alt-Enter, paste, and the history', async t => {
  const chat = start([{ content: '1' }, { content: '2' }, { content: '3' }, { content: '4' }])
  const { screen, type } = chat
  await screen.until('> ')
  type('one\\\r')
  await screen.until('... ')
  type('two\r')
  await screen.until(/\n> $/)
  type('three', KEY.altEnter, 'four\r')
  await screen.until(/\n> $/)
  type('<', KEY.paste('five\nsix \\\n/help\n'), '>\r')
  await screen.until(/\n> $/)
  type(KEY.up, KEY.up, KEY.up, '!\r')
  await screen.until(/\n> $/)
  const said = chat.conversation.messages.filter(({ role }) => role === 'user')
  t.same(
    said.map(({ content }) => content),
    ['one\ntwo', 'three\nfour', '<five\nsix \\\n/help>', 'one\ntwo!'],
  )
  type(KEY.end)
  t.equal(await chat.code, 0)
})

t.test('keys during an answer wait for the prompt', async t => {
  const chat = start([{ content: '1' }, { content: '2' }])
  await chat.screen.until('> ')
  chat.type('first\rsecond\r/quit\r')
  t.equal(await chat.code, 0)
  t.match(chat.model.asked, [[{ content: 'first' }], [{}, {}, { content: 'second' }]])
  t.match(chat.screen.all, /first\r\n1\n.*\n> second\r\n2\n/)
})

t.test('Ctrl-C stops an answer and keeps its part', async t => {
  const chat = start([{ content: 'Once upon', isEndless: true }, { content: 'a time' }])
  await chat.screen.until('> ')
  chat.type('Tell.\r')
  await chat.screen.until('Once upon')
  chat.type('dropped', KEY.interrupt)
  t.match(await chat.screen.until('> '), /\nmoepp: stopped\n> $/)
  chat.type('Go on.\r')
  await chat.screen.until('a time')
  t.match(chat.model.asked[1], [{}, { content: 'Once upon' }, { content: 'Go on.' }])
  await chat.screen.until('> ')
  chat.type(KEY.end)
  t.equal(await chat.code, 0)
})

t.test('Ctrl-C before the answer begins takes the message back', async t => {
  const chat = start([{ isEndless: true, generatedTokens: 0 }])
  await chat.screen.until('> ')
  chat.type('Tell.\r')
  await chat.screen.until('Tell.\r\n')
  chat.type(KEY.interrupt)
  await chat.screen.until('stopped before the answer began: the message is taken back\n> ')
  t.same(chat.conversation.messages, [])
  chat.type(KEY.end)
  await chat.code
})

t.test('Ctrl-C at the prompt', async t => {
  const chat = start([])
  const { screen, type } = chat
  await screen.until('> ')
  type('some text', KEY.interrupt)
  t.equal(await screen.until(/\n> $/), 'some text^C\r\n> ', 'clears the line')
  type('one\\\r')
  await screen.until('... ')
  type(KEY.interrupt)
  t.equal(await screen.until(/\n> $/), '^C\r\n> ', 'clears all lines')
  type(KEY.interrupt)
  t.equal(
    await screen.until(/\n> $/),
    '^C\r\nmoepp: Ctrl-C again ends the chat; so does Ctrl-D, or /quit\n> ',
  )
  type('x', KEY.interrupt)
  await screen.until(/\n> $/)
  type(KEY.interrupt)
  await screen.until(/again ends the chat.*\n> $/s)
  type(KEY.interrupt)
  t.equal(await chat.code, 130, 'the second in a row')
  t.same(chat.conversation.messages, [])
  t.same(chat.model.asked, [])
})

t.test('a dumb terminal: the system edits lines, and nothing is escaped', async t => {
  const chat = start([{ content: 'Warm.', isEndless: true }], { env: { TERM: 'dumb' } })
  await chat.screen.until('> ')
  chat.type('Hello\n')
  await chat.screen.until('Warm.')
  chat.signalInterrupt()
  await chat.screen.until('stopped\n> ')
  chat.signalInterrupt()
  await chat.screen.until('again ends the chat; so does Ctrl-D, or /quit\n> ')
  chat.signalInterrupt()
  t.equal(await chat.code, 130)
})

t.test('what fails takes the message back, and the chat goes on', async t => {
  const failures: [Error, RegExp][] = [
    [
      new MoeppError('ERR_BAD_PROMPT', 'too long'),
      /ERR_BAD_PROMPT: too long\. \/reset starts over/,
    ],
    [new MoeppError('ERR_BAD_TEMPLATE', 'no'), /ERR_BAD_TEMPLATE: no\n/],
    [new MoeppError('ERR_DEVICE', 'it broke'), /ERR_DEVICE: it broke\n/],
    [new RangeError('topK: expected'), /topK: expected\n/],
  ]
  const chat = start([...failures.map(([error]) => error), { content: 'Here.' }])
  await chat.screen.until('> ')
  for (const [, message] of failures) {
    chat.type('Hello\r')
    t.match(await chat.screen.until(/\n> $/), message)
    t.same(chat.conversation.messages, [])
  }
  chat.type('Hello\r')
  await chat.screen.until('Here.')
  await chat.screen.until('> ')
  chat.type(KEY.end)
  t.equal(await chat.code, 0)
})

t.test('an answer that is cut', async t => {
  const chat = start(
    [
      { content: 'a', finishReason: 'length', generatedTokens: 3 },
      { content: 'a', finishReason: 'length', generatedTokens: 2 },
      { finishReason: 'length', generatedTokens: 0 },
    ],
    { settings: { maxNewTokens: 3 } },
  )
  await chat.screen.until('> ')
  for (const message of [
    'cut: maxNewTokens is 3\n',
    'cut: the context is full. /reset starts over; a larger --context-length holds more\n',
    'ERR_BAD_PROMPT: the conversation fills the context. /reset starts over;',
  ]) {
    chat.type('x\r')
    t.match(await chat.screen.until(/\n> $/), message)
  }
  t.equal(chat.conversation.messages.length, 4)
  chat.type(KEY.end)
  await chat.code
})

t.test('retry: another answer, or the old one where that fails', async t => {
  const chat = start([{ content: 'one' }, { content: 'two' }, new Error('broken')])
  await chat.screen.until('> ')
  for (const line of ['Hello', '/retry', '/retry']) {
    chat.type(line, '\r')
    await chat.screen.until(/\n> $/)
  }
  t.match(chat.model.asked[1], [{ content: 'Hello' }])
  t.equal(chat.model.asked[1]!.length, 1)
  t.match(chat.conversation.messages, [{ content: 'Hello' }, { content: 'two' }])
  chat.type(KEY.end)
  await chat.code
})

t.test('a signal ends the chat, at the prompt and during an answer', async t => {
  const first = new AbortController()
  const atPrompt = start([], { signal: first.signal })
  await atPrompt.screen.until('> ')
  first.abort()
  t.equal(await atPrompt.code, 0)
  const second = new AbortController()
  const answering = start([{ content: 'Once', isEndless: true }], { signal: second.signal })
  await answering.screen.until('> ')
  answering.type('Tell.\r')
  await answering.screen.until('Once')
  second.abort()
  t.equal(await answering.code, 0)
})

t.test('a keyboard that is gone ends the chat', async t => {
  const chat = start([{ content: 'one' }])
  await chat.screen.until('> ')
  chat.stdin.end('Hello\r')
  t.equal(await chat.code, 0)
  t.match(chat.screen.all, 'one\n')
})

t.test('Tab completes commands', async t => {
  const chat = start([])
  await chat.screen.until('> ')
  chat.type('/res')
  chat.type('\t')
  chat.type('\r')
  await chat.screen.until('the conversation is empty\n> ')
  chat.type(KEY.end)
  t.equal(await chat.code, 0)
})

t.test('tools: results are typed, and the model goes on', async t => {
  const file = join(
    t.testdir({ 'tools.json': '[{"type": "function", "function": {"name": "weather"}}]' }),
    'tools.json',
  )
  const call = (city: string) => ({ name: 'weather', arguments: { city } })
  const chat = start([
    {
      content: 'I look.',
      toolCalls: [
        { ...call('Oslo'), id: 'call-1' },
        { name: '', arguments: '{"city"', invalid: 'it is not JSON' },
        call('Rome'),
      ],
    },
    { content: 'Cold.' },
    { toolCalls: [call('Bern'), call('Lyon')] },
    { content: 'Well.' },
    { toolCalls: [call('Nice')] },
    { toolCalls: [call('Pisa')] },
  ])
  const { screen, type, conversation } = chat
  await screen.until('> ')
  type(`/tools ${file}\r`)
  await screen.until('weather\n> ')
  type('How warm?\r')
  t.match(
    await screen.until('tool weather> '),
    'I look.\n[call] weather {"city":"Oslo"}\n[invalid call: it is not JSON]  {"city"\n[call] weather {"city":"Rome"}\n',
  )
  type('/reset\r')
  await screen.until("expected the tool's result, /skip or /quit\n")
  await screen.until('tool weather> ')
  type('4\\\r')
  await screen.until('... ')
  type('degrees\r')
  await screen.until('tool weather> ')
  type('/skip\r')
  t.match(await screen.until(/\n> $/), 'Cold.')
  t.match(chat.model.asked[1], [
    { role: 'user' },
    { role: 'assistant' },
    { role: 'tool', name: 'weather', content: '4\ndegrees', toolCallId: 'call-1' },
  ])
  t.equal(chat.model.asked[1]!.length, 3)
  t.match(chat.model.options[0], {
    tools: [{ function: { name: 'weather' } }],
    routing: 'computed',
  })
  type('And?\r')
  await screen.until('tool weather> ')
  type(KEY.interrupt)
  await screen.until(/\n> $/)
  t.equal(chat.model.asked.length, 3, 'Ctrl-C leaves the calls')
  type('Then?\r')
  await screen.until(/\n> $/)
  type('More?\r')
  await screen.until('tool weather> ')
  type('/skip\r')
  await screen.until(/\n> $/)
  t.equal(chat.model.asked.length, 5)
  type('More?\r')
  await screen.until('tool weather> ')
  type(KEY.end)
  t.equal(await chat.code, 0)
  t.equal(conversation.messages.at(-1)?.role, 'assistant')
})
