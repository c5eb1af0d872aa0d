/** `moepp chat` at a terminal: calls of tools, whose results a person types. */
import { join } from 'node:path'
import t from 'tap'
import { KEY } from './screen.js'
import { start } from './stand-in-chat.js'

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
  type('/bye\r')
  t.equal(await chat.code, 0)
  t.equal(conversation.messages.at(-1)?.role, 'assistant')
})
