/** Texts of a model on a terminal, which obeys none of their characters. */
import t from 'tap'
import { visible } from '../../lib/cli/visible.js'
import { BOOKS } from './run-cli.js'
import { runHere } from './run-here.js'

const OBEYED = '\x1b]0;PWNED\x07\x9b31m\x7f\u202e\u2066'
const SHOWN = '\\u001b]0;PWNED\\u0007\\u009b31m\\u007f\\u202e\\u2066'

t.test('each character counts alone, wherever a stream is cut', async t => {
  const text = `a\tb\r\n${OBEYED}\u00e9 \u05d0\u200f \u{1f600}`
  t.equal(visible(text), `a\tb\n${SHOWN}\u00e9 \u05d0\u200f \u{1f600}`)
  const units = Array.from({ length: text.length }, (_, i) => visible(text[i]!))
  t.equal(units.join(''), visible(text))
  t.equal(visible(visible(text)), visible(text))
})

t.test('generate: a terminal shows them, a pipe gets them', async t => {
  const args = ['generate', '--model', BOOKS, '--device', 'cpu', '--echo', OBEYED]
  const regex = ['--regex', '\\x1b\\]0;PWNED\\x07\\u009b31m']
  const one = [...args, ...regex]
  const forms: [string[], (text: string, answer: string) => string][] = [
    [one, (prompt, text) => `${prompt}${text}\n`],
    [
      [...one, '--num-return-sequences', '2', '--temperature', '1'],
      (prompt, text) => `[1] ${prompt}${text}\n\n[2] ${prompt}${text}\n`,
    ],
  ]
  const [answer, shown] = ['\x1b]0;PWNED\x07\x9b31m', '\\u001b]0;PWNED\\u0007\\u009b31m']
  for (const [line, expected] of forms) {
    const piped = await runHere(line, { isTerminal: { stdout: false, stderr: true } })
    t.equal(piped.stdout, expected(OBEYED, answer))
    const seen = await runHere(line, { isTerminal: { stdout: true, stderr: false } })
    t.equal(seen.stdout, expected(SHOWN, shown))
  }
})

t.test('JSON on a terminal is the same value', async t => {
  const args = ['generate', '--model', BOOKS, '--device', 'cpu', '--max-new-tokens', '1', '--json']
  const isTerminal = { stdout: true, stderr: false }
  const { stdout } = await runHere([...args, OBEYED], { isTerminal })
  t.notMatch(stdout, /[^\P{Cc}\n]|[\u202a-\u2069]/u)
  t.equal(JSON.parse(stdout).prompt, OBEYED)
})
