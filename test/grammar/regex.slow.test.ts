/** Patterns in XGrammar: it accepts the texts that JavaScript's RegExp matches, and no others. */
import t from 'tap'
import { PLAIN, wholeMatch } from '../../lib/grammar/regex.js'
import { tokenizer } from '../generation/fake-model.js'
import { random } from '../support/random.js'
import { Driver } from './drive.js'
import { PATTERNS } from './patterns.js'
import { randomText, shown } from './random-text.js'

const driver = await Driver.of(tokenizer)

/** A text with one character left out, doubled or replaced. */
function changed(text: string, next: () => number): string {
  const characters = [...text]
  const at = Math.floor(next() * characters.length)
  const with_ = [[], [characters[at], characters[at]], [[...'a1 é"'][Math.floor(next() * 5)]]]
  characters.splice(at, 1, ...(with_[Math.floor(next() * 3)] as string[]))
  return characters.join('')
}

for (const [pattern, ...texts] of PATTERNS) {
  t.test(pattern, async t => {
    const regex = new RegExp(`^(?:${pattern})$`, 'u')
    const grammar = await driver.compile({ regex: pattern })
    t.teardown(() => grammar.close())
    const next = random(5)
    const expression = wholeMatch(pattern, 'regex', PLAIN)
    const written = Array.from({ length: 8 }, () => randomText(expression, next))
    for (const text of [...texts, ...written, ...written.map(text => changed(text, next))]) {
      const accepted = await driver.accepts(grammar, driver.bytes(text))
      t.equal(accepted, regex.test(text), shown(text))
    }
    for (let i = 0; i < 5; i++) {
      const text = await driver.randomText(grammar, next)
      if (text !== undefined) t.ok(regex.test(text), shown(text))
    }
    for (const bytes of [
      [0x80],
      [0xc0, 0x80],
      [0xed, 0xa0, 0x80],
      [0xf4, 0x90, 0x80, 0x80],
      [0xff],
    ])
      t.notOk(
        await driver.accepts(
          grammar,
          bytes.map(byte => driver.bytes('\0')[0]! + byte),
        ),
        `${bytes}`,
      )
  })
}
