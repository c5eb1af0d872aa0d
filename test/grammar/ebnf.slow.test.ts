/** EBNF in XGrammar: the texts that it accepts, and others. */
import t from 'tap'
import { parseEbnf } from '../../lib/grammar/ebnf-parser.js'
import { tokenizer } from '../generation/fake-model.js'
import { random } from '../support/random.js'
import { Driver } from './drive.js'
import { randomText, shown } from './random-text.js'

const CASES: readonly (readonly [ebnf: string, yes: readonly string[], no: readonly string[]])[] = [
  ['root ::= "abc" | "d"', ['abc', 'd'], ['ab', 'abcd', '']],
  [
    '# a comment\nroot ::= a  # another\n  b\na::="x"|y\ny ::= "z"\nb ::= [0-9]+',
    ['x1', 'z42'],
    ['x'],
  ],
  ['root ::= root "a" | "b"', ['b', 'baa'], ['', 'ab']],
  ['root ::= ("" | "a")* e\ne ::= "" | e "c"', ['', 'aa', 'aacc'], ['ca']],
  ['root ::= "a"{2} "b"{1,} "c"{0,2} ("d" "e")?', ['aab', 'aabbccde'], ['ab', 'aabccc', 'aabd']],
  ['root ::= "(" root ")" | ""', ['', '(())'], ['(', '())']],
  ['root ::= "é\\n\\"\\\\\\x41\\u6771\\U0001F600"', ['é\n"\\A東😀'], ['é']],
  ['root ::= [^a-z\\n] [\\w-] [\\]\\-é-ñ^]', ['A-]', '東_^', '1aí'], ['aa]', 'A!]', 'A-a']],
  ['root ::= [\\d\\s] [\\D]', ['1x', ' é'], ['1 1', '11']],
]

t.test('texts that are accepted, and others', async t => {
  const driver = await Driver.of(tokenizer)
  const next = random(9)
  for (const [ebnf, yes, no] of CASES) {
    const grammar = await driver.compile({ ebnf })
    const { root } = parseEbnf(ebnf, 'ebnf')
    const written = Array.from({ length: 5 }, () => randomText(root, next))
    for (const text of [...yes, ...written])
      t.equal(await driver.accepts(grammar, driver.bytes(text)), true, shown(text))
    for (const text of no)
      t.equal(await driver.accepts(grammar, driver.bytes(text)), false, shown(text))
    grammar.close()
  }
})

t.test('a long repetition of a large class is compiled', async t => {
  const driver = await Driver.of(tokenizer)
  const grammar = await driver.compile({ regex: '\\p{L}{3,200}' })
  t.teardown(() => grammar.close())
  for (const [text, isIn] of [
    ['é東Ω'.repeat(66), true],
    ['aé', false],
    ['a'.repeat(200), true],
    ['a'.repeat(201), false],
    ['aé1', false],
  ] as const)
    t.equal(await driver.accepts(grammar, driver.bytes(text)), isIn, shown(text))
})
