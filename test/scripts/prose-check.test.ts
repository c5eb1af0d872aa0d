/** The rules of scripts/prose-check.mjs: each finds its fault, and leaves good lines alone. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { root } from '../support/golden.js'

const script = join(root, 'scripts', 'prose-check.mjs')
const { faultsOf } = (await import(pathToFileURL(script).href)) as {
  faultsOf(file: string, text: string): { line: number; fault: string }[]
}
/** The faults as "line: words". */
const faults = (file: string, text: string) =>
  faultsOf(file, text).map(({ line, fault }) => `${line}: ${fault}`)
/** The faults of sentences alone. */
const prose = (file: string, text: string) =>
  faults(file, text).filter(fault => !fault.includes('columns'))
const words = (count: number) => `W${' word'.repeat(count - 1)}.`
const wide = (count: number) => 'x'.repeat(count)

t.test('width', async t => {
  const tooWide = [/^2: 101 columns, at most 100$/]
  for (const file of ['a.md', 'a.yml', 'a.sh', 'CMakeLists.txt'])
    t.match(faults(file, `\n${wide(101)}\n`), tooWide, file)
  t.match(faults('a.ts', `\n// ${wide(98)}\n`), tooWide)
  t.match(faults('a.cc', `/*\n * ${wide(98)}\n */`), tooWide)
  t.match(faults('a.md', `\n${'é'.repeat(101)}`), tooWide)
  const passing: [string, string][] = [
    ['a.md', wide(100)],
    ['a.md', 'é'.repeat(100)],
    // Formatters own code.
    ['a.ts', `const a = '${wide(100)}'`],
    ['a.cu', `// SASS ${wide(100)}`],
    ['a.cc', `// clang-format off\n// ${wide(100)}\n// clang-format on`],
    ['a.md', `| ${wide(100)} |`],
    ['a.md', `https://example.org/${wide(100)}`],
    ['a.ts', `// https://example.org/${wide(100)}`],
    ['a.md', `- [name](https://example.org/${wide(100)})`],
    ['a.md', `[name]: https://example.org/${wide(100)}`],
    ['a.md', `\`\`\`text\n${wide(101)}\n\`\`\``],
  ]
  for (const [file, text] of passing) t.same(faults(file, text), [], text.slice(0, 30))
  t.match(faults('a.md', `\`\`\`ts\n${wide(101)}\n\`\`\``), tooWide)
  t.match(faults('a.cc', `// clang-format off\n// clang-format on\n// ${wide(100)}`), [/^3: 103/])
})

t.test('a sentence of more than 25 words', async t => {
  const long = [/^3: 26 words, at most 25: "W word word word word word \.\.\."$/]
  for (const [file, before, after] of [
    ['a.md', '# Head\n\n', ''],
    ['a.md', 'Good.\n\n- ', ''],
    ['a.md', 'Good.\n\n> ', ''],
    ['a.ts', '\n\n// ', ''],
    ['a.ts', '\n/**\n * ', '\n */'],
    ['a.cc', 'int a;\n/* Good.\n ', ' */'],
    ['a.yml', '\n\n# ', ''],
    ['a.cmake', '# Good.\n# Good.\n# ', ''],
  ] as const) {
    t.match(prose(file, before + words(26) + after), long, JSON.stringify(before))
    t.same(prose(file, before + words(25) + after), [], JSON.stringify(before))
  }
  const half = words(13).slice(0, -1)
  // Ends of sentences that are none, each between two halves.
  for (const between of ['e.g.', 'i.e.', 'vs.', '(cf. it)', 'file.ts', '0.1', '`a. B`', '\n'])
    t.equal(prose('a.md', `${half} ${between} ${half}.`).length, 1, between)
  // Two sentences each.
  for (const between of ['.', '!', '?', '.)', '."', '.\n', '.\n\n', '\n\n', '\n- ', '. `code`'])
    t.same(prose('a.md', `${half}${between} ${half}.`), [], JSON.stringify(between))
  t.same(prose('a.md', `${words(20)} ${words(20)}`), [])
  // The line is that of the sentence.
  t.match(prose('a.md', `Good.\nGood too. ${half}\n${half}.`), [/^2: 26/])
  for (const text of [
    `| ${words(30)} |`,
    `\`\`\`\n${words(30)}\n\`\`\``,
    `# ${words(30)}`,
    `    ${words(30)}`,
    `One list: ${'`code`, '.repeat(30)}\`end\`.`,
    `One list: ${'12 + '.repeat(30)} 1.`,
  ])
    t.same(prose('a.md', text), [], text.slice(0, 20))
  t.same(prose('a.ts', `// ${words(13)}\n\n// ${words(13)}`), [], 'two comments')
  t.same(prose('a.ts', `/**\n * ${half}\n * @param x ${half}\n */`), [], 'two tags')
  t.same(prose('a.ts', `const a = \`\n${words(30)}\n\``), [], 'no comment')
})

t.test('patterns', async t => {
  const cases = {
    'clause first': [
      [
        'What the machine allows is used.',
        'Where it is, it runs.',
        'Whether it is open.',
        'Which page holds the token.',
        'Why it ended.',
      ],
      [
        'The machine says what it allows.',
        'What does it allow?',
        'How to build it.',
        'However, so.',
        '**Why**: it is faster.',
      ],
    ],
    '"of which"': [['It has four, of which two run.'], ['It has four. Two of them run.']],
    'chain of "which"': [
      ['The file in which a name by which it goes stands.'],
      ['The file in which it stands.', 'One in which it is. One by which it goes.'],
    ],
    '"as far as"': [['It runs as far as it can.'], ['It is as far away as that.']],
    '"so that it is not"': [['It is kept, so that it is not lost.'], ['It is kept.']],
    '"what meets"': [['Round what meets a matrix.'], ['Round the operands.']],
    '"whom"': [['Tell whom it fails.'], ['Tell the caller.']],
    '"nobody"': [['Nobody waits.'], ['No thread waits.']],
    '"is of the"': [['It is of the CPU.'], ['It is one of the CPUs.']],
  }
  for (const [name, [wrong, right]] of Object.entries(cases)) {
    for (const text of wrong as string[])
      for (const [file, line] of [
        ['a.md', text],
        ['a.ts', `// ${text}`],
      ] as const)
        t.match(prose(file, line)[0], `1: ${name}`, text)
    for (const text of right as string[]) t.same(prose('a.md', text), [], text)
  }
  t.same(prose('a.md', 'It refuses `whom` and `nobody`.'), [], 'code is no English')
})

t.test('the command', async t => {
  const folder = t.testdir({
    'good.md': 'Good.\n',
    'bad.md': `Good.\n\n${words(26).replaceAll(' ', '\n')}\n`,
  })
  const check = (...args: string[]) =>
    spawnSync(process.execPath, [script, ...args], { encoding: 'utf8' })
  t.equal(check(join(folder, 'good.md')).status, 0)
  const bad = check(join(folder, 'bad.md'))
  t.equal(bad.status, 1)
  t.match(bad.stderr, /bad\.md:3: 26 words.*\nprose-check: 1 fault\n$/)
})
