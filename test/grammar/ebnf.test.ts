/** EBNF: its errors, with their places. */
import t from 'tap'
import { grammarText } from '../../lib/grammar/grammar-text.js'
import { shown } from './random-text.js'

const ERRORS: readonly (readonly [ebnf: string, message: RegExp])[] = [
  ['', /^grammar.ebnf: there is no rule "root"/],
  ['a ::= "x"', /there is no rule "root"/],
  ['root ::= a', /line 1, column 10: the rule "a" is not defined/],
  ['root ::= "a"\nroot ::= "b"', /line 2, column 1: the rule "root" is defined twice/],
  ['root "a"', /line 1, column 1: expected NAME ::= RULE/],
  ['root ::= "a" ::= "b"', /line 1, column 14: expected NAME ::= RULE/],
  ['root ::= ', /line 1, column 10: expected "text"/],
  ['root ::= "a" |', /column 15: expected "text"/],
  ['root ::= ("a"', /column 14: expected \)/],
  ['root ::= "a', /column 10: a text without its closing "/],
  ['root ::= "a\n"', /column 10: a text without its closing "/],
  ['root ::= [a', /column 10: a class without its closing \]/],
  ['root ::= [b-a]', /column 11: a range that ends before it begins/],
  ['root ::= "\\q"', /an unknown escape \\q/],
  ['root ::= "\\', /an unknown escape \\/],
  ['root ::= "\\uD800"', /a code that is no character/],
  ['root ::= "\\UFFFFFFFF"', /a code that is no character/],
  ['root ::= "a"{2,1}', /column 13: a range that ends before it begins/],
  ['root ::= "a"{x}', /expected \{n\}, \{n,\} or \{n,m\}/],
  ['root ::= "a"{5000}', /repeats more than 1000 times/],
  ['root ::= "a" (="b")', /lookahead assertions are not supported/],
  ['root ::= root', /root: no text can end, or none is allowed/],
  ['root ::= "a" x\nx ::= "b" x', /no text can end/],
  ['root ::= []', /no text can end/],
  [`root ::= ${'('.repeat(200)}"a"${')'.repeat(200)}`, /more than 100 nested groups/],
]

t.test('what is wrong, and where', async t => {
  for (const [ebnf, message] of ERRORS) {
    const error = { name: 'MoeppError', code: 'ERR_BAD_GRAMMAR', message }
    t.throws(() => grammarText({ ebnf }), error, shown(ebnf))
  }
})
