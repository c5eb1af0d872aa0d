/** `moepp chat` in a pseudo-terminal: real keys, a real model of random weights. */
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import t, { type Test } from 'tap'
import { chatCheckpoint } from '../support/chat-checkpoint.js'
import { root } from '../support/golden.js'
import { noPty, Pty } from './pty.js'
import { BOOKS, finish, startCli } from './run-cli.js'
import { KEY } from './screen.js'

if (noPty) t.comment(`skipped: ${noPty}`)
const pty = { skip: noPty }

const checkpoint = chatCheckpoint(t.testdir())
const MODEL = ['chat', '--model', checkpoint, '--device', 'cpu']
const FEW = [...MODEL, '--max-new-tokens', '3']
const ENDLESS = [...MODEL, '--ignore-eos']

const ESC = '\x1b'

/** The prompt is on the screen, with the cursor behind it. */
const PROMPT = new RegExp(`(\\n|${ESC}\\[0J)> (${ESC}\\[3G)?$`)
const NEXT_LINE = new RegExp(`\\.\\.\\. (${ESC}\\[5G)?$`)
/** The first characters of an answer are there. */
const ANSWER = new RegExp(`\\n(${ESC}\\[\\?2004l)?[^${ESC}]*[^${ESC}\\s]`)
const FIGURES = /moepp: \d+ prompt tokens .*, \d+ generated.*, [\d.]+ of 8 FFN experts per token/

async function start(t: Test, args = FEW, options: Parameters<typeof Pty.start>[1] = {}) {
  const pty = await Pty.start(args, options)
  t.teardown(() => pty.kill())
  const until = async (expected: string | RegExp) =>
    stripVTControlCharacters(await pty.screen.until(expected))
  await until(PROMPT)
  return {
    pty,
    screen: pty.screen,
    until,
    type: (...keys: string[]) => pty.type(...keys),
    /** Types a line, and waits for the prompt. */
    async enter(line: string): Promise<string> {
      pty.type(line, KEY.enter)
      return until(PROMPT)
    },
  }
}

/** The saved conversation's messages. */
async function saved(
  t: Test,
  { type, until }: Pick<Awaited<ReturnType<typeof start>>, 'type' | 'until'>,
): Promise<{ role: string; content: string }[]> {
  const file = join(t.testdir(), 'saved.json')
  type(`/save ${file}`, KEY.enter)
  // A window of another size may draw the prompt once more before that.
  await until('saved in')
  await until(PROMPT)
  return JSON.parse(readFileSync(file, 'utf8')).messages
}

t.test('a prompt, an answer, and the end', pty, async t => {
  const chat = await start(t)
  const answer = await chat.enter('Hello')
  t.match(answer, /^Hello\r+\n/)
  t.match(answer, FIGURES)
  t.match(await chat.enter('And?'), FIGURES)
  chat.type(KEY.end)
  t.equal(await chat.pty.exit(), 0)
  t.match(chat.screen.all, `${ESC}[2mmoepp: `, 'dim figures')
  t.ok(chat.screen.all.endsWith('\x1b[?2004l'), 'no bracketed paste is left on')
})

t.test('lines by backslash and paste, and the history', pty, async t => {
  const chat = await start(t)
  chat.type('one \\', KEY.enter)
  await chat.until(NEXT_LINE)
  await chat.enter('two')
  await chat.enter(KEY.paste('three\r\nfour "é" 好 🎉\n'))
  await chat.enter(KEY.up + KEY.up)
  t.same(
    (await saved(t, chat)).filter(({ role }) => role === 'user').map(({ content }) => content),
    ['one \ntwo', 'three\nfour "é" 好 🎉', 'one \ntwo'],
  )
  chat.type('/quit', KEY.enter)
  t.equal(await chat.pty.exit(), 0)
})

t.test('a long paste arrives whole', pty, async t => {
  const chat = await start(t, [...FEW, '--context-length', '64'])
  const text = Array.from({ length: 2000 }, (_, i) => `line ${i} 好`).join('\n')
  chat.type(KEY.paste(text), KEY.enter)
  await chat.until(/ERR_BAD_PROMPT: .*\/reset starts over; a larger --context-length holds more/)
  await chat.until(PROMPT)
  t.match(await chat.enter('Hello'), FIGURES)
  t.same((await saved(t, chat)).length, 2, 'the long message is taken back')
})

t.test('each command', pty, async t => {
  const folder = t.testdir({
    'tools.json': '[{"type": "function", "function": {"name": "weather"}}]',
    'bad.json': '{"messages": [{"role": 5}]}',
  })
  const chat = await start(t)
  const steps: [string, string | RegExp][] = [
    ['/help', '/retry               answers the last message once more'],
    ['/system You are terse.', 'You are terse.'],
    ['/set temperature 0.7', /maxNewTokens 3\s+temperature 0.7/],
    ['/set top-p 7', 'moepp: topP: expected a number >= 0 and <= 1, got 7'],
    ['/set template.enable_thinking false', 'template.enable_thinking false'],
    ['/unset temperature', 'temperature is unset'],
    [`/tools ${join(folder, 'tools.json')}`, 'weather'],
    ['Hello', FIGURES],
    ['/retry', FIGURES],
    [`/save ${join(folder, 'chat.json')}`, '2 messages saved in'],
    [`/save ${join(folder, 'chat.json')}`, 'is there already; /save! overwrites it'],
    ['/reset', 'the conversation is empty'],
    [`/load ${join(folder, 'chat.json')}`, '2 messages of'],
    [`/load ${join(folder, 'bad.json')}`, /ERR_BAD_FILE: \S+bad.json: messages\[0\].role/],
    ['/sytem', 'unknown command /sytem: did you mean /system?'],
    ['//etc is a folder', FIGURES],
  ]
  for (const [line, expected] of steps) {
    const shown = (await chat.enter(line)).replaceAll('\r', '')
    t.match(shown, expected, line)
  }
  chat.type('/quit', KEY.enter)
  t.equal(await chat.pty.exit(), 0)
  const { system, settings, messages } = JSON.parse(readFileSync(join(folder, 'chat.json'), 'utf8'))
  t.equal(system, 'You are terse.')
  t.match(settings, { maxNewTokens: 3, templateVariables: { enable_thinking: false } })
  t.equal(messages.length, 2)
})

t.test('Ctrl-C during an answer stops it, and the next message works', pty, async t => {
  const chat = await start(t, ENDLESS)
  chat.type('Hello', KEY.enter)
  await chat.until(ANSWER)
  chat.type(KEY.interrupt)
  t.match(await chat.until(PROMPT), /, \d+ generated.*\r\nmoepp: stopped\r\n> $/s)
  await chat.enter('/set max-new-tokens 3')
  t.match(await chat.enter('And?'), FIGURES)
  const messages = await saved(t, chat)
  t.equal(messages.length, 4)
  t.not(messages[1]!.content, '', 'the part so far')
  chat.type('/quit', KEY.enter)
  t.equal(await chat.pty.exit(), 0)
})

t.test('Ctrl-C at the prompt: clears a line, and twice in a row ends', pty, async t => {
  const chat = await start(t)
  chat.type('some text')
  await chat.until('some text')
  chat.type(KEY.interrupt)
  t.match(await chat.until(PROMPT), /^\^C\r+\n> $/)
  chat.type(KEY.interrupt)
  await chat.until('Ctrl-C again ends the chat')
  await chat.until(PROMPT)
  chat.type(KEY.interrupt)
  t.equal(await chat.pty.exit(), 130)
})

t.test('Ctrl-C while the model loads ends the program', pty, async t => {
  // A hub that never answers.
  const server = createServer(() => {}).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close().closeAllConnections())
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const asked = once(server, 'request')
  const args = ['chat', '--model', 'hf:owner/name', '--endpoint', endpoint]
  const pty = await Pty.start(args, { env: { HF_HUB_CACHE: t.testdir() } })
  t.teardown(() => pty.kill())
  await asked
  pty.type(KEY.interrupt)
  t.equal(await pty.exit(), 130)
  t.match(pty.screen.rest, /moepp: interrupted\r\n$/)
})

t.test('NO_COLOR: no colours', pty, async t => {
  const chat = await start(t, FEW, { env: { NO_COLOR: '1' } })
  await chat.enter('Hello')
  await chat.enter('/nothing')
  chat.type(KEY.end)
  t.equal(await chat.pty.exit(), 0)
  t.notMatch(chat.screen.all, new RegExp(`${ESC}\\[[\\d;]*m`))
})

t.test('TERM=dumb: no escape sequences at all', pty, async t => {
  const chat = await start(t, ENDLESS, { env: { TERM: 'dumb' } })
  chat.type('Hello\n')
  await chat.until(ANSWER)
  chat.type(KEY.interrupt)
  await chat.until(/moepp: stopped\r+\n> $/)
  await chat.enter('/set max-new-tokens 3')
  t.match(await chat.enter('wrong\x7f\x7f\x7f\x7f\x7fAnd?'), FIGURES)
  t.equal((await saved(t, chat))[2]!.content, 'And?', 'the system edits the line')
  chat.type(KEY.interrupt)
  await chat.until('Ctrl-C again ends the chat')
  await chat.until(PROMPT)
  chat.type(KEY.interrupt)
  t.equal(await chat.pty.exit(), 130)
  t.notOk(chat.screen.all.includes(ESC))
})

t.test('another size of the window, at the prompt and during an answer', pty, async t => {
  const chat = await start(t, ENDLESS)
  chat.type('some 好 text that is longer than the window will be')
  await chat.until('will be')
  chat.pty.resize(30)
  await chat.until('will be')
  chat.type(KEY.enter)
  await chat.until(ANSWER)
  chat.pty.resize(50)
  chat.type(KEY.interrupt)
  const answer = await chat.screen.until('moepp: stopped')
  t.notOk(answer.includes(`${ESC}[0J`), 'no prompt within the answer')
  await chat.until(PROMPT)
  t.equal((await saved(t, chat))[0]!.content, 'some 好 text that is longer than the window will be')
})

t.test('a base model is refused at once', pty, async t => {
  const pty = await Pty.start(['chat', '--model', BOOKS])
  t.teardown(() => pty.kill())
  t.equal(await pty.exit(), 1)
  t.match(
    stripVTControlCharacters(pty.screen.rest),
    /^moepp: ERR_NO_CHAT_TEMPLATE: .*base model.*\r\n$/,
  )
})

t.test('SIGTERM ends a chat, and leaves the terminal as it was', pty, async t => {
  const chat = await start(t)
  process.kill(chat.pty.pid, 'SIGTERM')
  t.equal(await chat.pty.exit(), 143)
  t.ok(chat.screen.all.endsWith('\x1b[?2004lmoepp: interrupted\r\n'))
})

const noFull = existsSync('/dev/full') ? false : 'there is no /dev/full'

t.test('answers that cannot be written end a chat', { skip: noFull }, async t => {
  const command = `NODE_OPTIONS= exec "$0" "$@" > /dev/full`
  const args = [process.execPath, join(root, 'dist', 'cli', 'main.js'), ...FEW]
  const { status, stderr } = spawnSync('sh', ['-c', command, ...args], {
    encoding: 'utf8',
    input: '"Hello"\n"And?"\n',
  })
  t.equal(status, 1)
  t.match(stderr, /^moepp: ERR_CANNOT_WRITE: standard output: ENOSPC/)
})

t.test('Ctrl-C ends a chat with a program', async t => {
  const child = startCli([...FEW, '--json'])
  t.teardown(() => child.kill('SIGKILL'))
  child.stdin.write('"Hello"\n')
  const [answer] = await once(child.stdout, 'data')
  t.match(JSON.parse(String(answer)), { message: { role: 'assistant' } })
  child.kill('SIGINT')
  t.match(await finish(child), { code: 130, stdout: '', stderr: 'moepp: interrupted\n' })
})
