/** Regular expressions as expressions of a grammar, against JavaScript's own. */
import t from 'tap'
import { ebnfOf } from '../../lib/grammar/ebnf.js'
import { Rules } from '../../lib/grammar/expression.js'
import { grammarText } from '../../lib/grammar/grammar-text.js'
import { anyMatch, PLAIN, wholeMatch } from '../../lib/grammar/regex.js'
import { random } from '../support/random.js'
import { PATTERNS, UNSUPPORTED } from './patterns.js'
import { randomText, shown } from './random-text.js'

const PLACE = 'grammar.regex'

t.test('random texts of a pattern match it', async t => {
  const next = random(3)
  for (const [pattern] of PATTERNS) {
    const whole = new RegExp(`^(?:${pattern})$`, 'u')
    const part = new RegExp(pattern, 'u')
    const expression = wholeMatch(pattern, PLACE, PLAIN)
    const search = anyMatch(pattern, PLACE, PLAIN)
    t.match(
      ebnfOf({ root: expression, rules: new Rules() }, PLACE).ebnf,
      /^root ::= [\x20-\x7e\n]+$/,
    )
    for (let i = 0; i < 50; i++) {
      const text = randomText(expression, next)
      if (!whole.test(text)) t.fail(`${pattern}: ${JSON.stringify(text)}`)
      const longer = randomText(search, next)
      if (!part.test(longer)) t.fail(`${pattern} in ${JSON.stringify(longer)}`)
    }
  }
})

t.test('what a pattern cannot say is refused', async t => {
  for (const [regex, reason] of UNSUPPORTED) {
    const error = { name: 'MoeppError', code: 'ERR_BAD_GRAMMAR', message: reason }
    t.throws(() => grammarText({ regex }), error, regex)
  }
  for (const regex of ['[]', '\ud800', '[\ud800-\udfff]', '[\\ud800-\\udfff]'])
    t.throws(() => grammarText({ regex }), { message: /no text/ }, shown(regex))
  t.same(grammarText({ regex: '[\ud7ff-\ue000]' }), grammarText({ regex: '[\ud7ff\ue000]' }))
  t.throws(() => grammarText({ regex: 'a{2000}' }), { message: /more than 1000 times/ })
})
