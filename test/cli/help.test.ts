import t from 'tap'
import { fitLines } from '../../lib/cli/help.js'
import { runHere } from './run-here.js'

const COMMANDS = ['generate', 'inspect', 'convert', 'bench', 'eval', 'routing', 'doctor']

t.test('help fits terminals of 44, 80 and 200 columns, and breaks no word', async t => {
  for (const command of COMMANDS) {
    const words = (text: string) =>
      text
        .split(/\s+/)
        .filter(word => word !== '\\')
        .join(' ')
    const { stdout: wide } = await runHere([command, '--help'], { columns: 200 })
    for (const columns of [44, 80, 200]) {
      const { code, stdout } = await runHere([command, '--help'], { columns })
      t.equal(code, 0)
      const most = Math.max(...stdout.split('\n').map(line => line.length))
      t.ok(most <= Math.min(columns, 100), `${command}: ${most} columns`)
      t.equal(words(stdout), words(wide))
    }
  }
})

t.test('choices and defaults are said once', async t => {
  for (const command of COMMANDS) {
    const { stdout } = await runHere([command, '--help'])
    t.notMatch(stdout, /choices:/)
    for (const entry of stdout.split(/\n {2}(?=-)/))
      t.ok((entry.match(/\(default|; default/g) ?? []).length <= 1, entry)
  }
  const { stdout } = await runHere(['convert', '--help'])
  t.match(stdout, /\(default: 5GB\)/)
})

t.test('no example names a model that a hub would be asked for by mistake', async t => {
  const { stdout: all } = await runHere(['--help'], { columns: 200 })
  const helps = await Promise.all(
    COMMANDS.map(command => runHere([command, '--help'], { columns: 200 })),
  )
  const texts = [all, ...helps.map(({ stdout }) => stdout)]
  const examples = texts.flatMap(text => text.match(/^ +\$ moepp .*/gm) ?? [])
  t.ok(examples.length > 10, 'there are examples')
  for (const example of examples) {
    // A word that begins with a letter and has one slash may be `owner/name`.
    for (const word of example.split(' ')) t.notMatch(word, /^\w[\w.-]*\/[\w.-]+$/, example)
  }
})

t.test('lines are broken at blanks', t => {
  t.equal(fitLines('short\n  as it is', 20), 'short\n  as it is')
  t.equal(fitLines('one two three four\nx', 9), 'one two\nthree\nfour\nx')
  t.equal(fitLines('  $ moepp inspect a --json', 20), '  $ moepp inspect \\\n      a --json')
  t.equal(fitLines('a-very-long-word', 5), 'a-very-long-word')
  t.end()
})

// biome-ignore lint/suspicious/noControlCharactersInRegex: colours begin with one
const COLOR = /\u001b\[/

t.test('colours where a terminal shows them', async t => {
  const both = (value: boolean) => ({ stdout: value, stderr: value })
  const cases: [boolean, NodeJS.ProcessEnv, boolean][] = [
    [true, { TERM: 'xterm' }, true],
    [false, { TERM: 'xterm' }, false],
    [true, { TERM: 'dumb' }, false],
    [true, { TERM: 'xterm', NO_COLOR: '1' }, false],
    [true, { TERM: 'xterm', NODE_DISABLE_COLORS: '1' }, false],
    [true, { TERM: 'xterm', FORCE_COLOR: '0' }, false],
    [false, { TERM: 'xterm', FORCE_COLOR: '1' }, true],
  ]
  for (const [isTerminal, env, expected] of cases) {
    const here = { env, isTerminal: both(isTerminal) }
    const about = JSON.stringify({ isTerminal, env })
    const help = await runHere(['generate', '--help'], here)
    t.equal(COLOR.test(help.stdout), expected, `help, ${about}`)
    if (expected) t.match(help.stdout, '\u001b[1mExamples:\u001b[22m')
    const wrong = await runHere(['generate', '--modl'], here)
    t.equal(COLOR.test(wrong.stderr), expected, `error, ${about}`)
    if (expected) t.match(wrong.stderr, '\u001b[31mmoepp:\u001b[39m unknown option')
  }
})
