/** Lengths of long strings, which are counted beside the grammar. */
import { join } from 'node:path'
import t from 'tap'
import { StringLength, TokenLengths } from '../../lib/grammar/string-lengths.js'
<<<<<<< HEAD
=======
import { loadTokenizer } from '../../lib/tokenizer/tokenizer.js'
import { tokenizer } from '../generation/fake-model.js'
import { golden } from '../support/golden.js'
import { random } from '../support/random.js'
import { Driver } from './drive.js'
>>>>>>> w-ga

const bytes = (text: string) => Buffer.from(text)

t.test('characters since the last quote', async t => {
  const table: [text: string, count: number][] = [
    ['', 0],
    ['abc', 3],
    ['a"', 0],
    ['{"é東😀', 3],
    ['"a\\"b', 3],
    ['"\\\\"xy', 2],
    ['"\\n\\u0001\\t', 3],
    ['"\\u00', 1],
    ['"a\\', 2],
  ]
  for (const [text, count] of table) {
    const whole = new StringLength()
    whole.push(bytes(text))
    t.equal(whole.count, count, text)
    // The same in any pieces, and through `after`, which ends at a quote.
    const byByte = new StringLength()
    for (const byte of bytes(text)) byByte.push(Uint8Array.of(byte))
    t.equal(byByte.count, count, text)
  }
  const begun = new StringLength()
  begun.push(bytes('"ab\\'))
  t.equal(begun.after(bytes('"cd"efg')), 5)
  t.equal(begun.count, 3)
})

t.test('the last place within no character and no escape', async t => {
  const table: [text: string, boundary: number | undefined][] = [
    ['', undefined],
    ['ab', 2],
    ['aé', 3],
    ['a\\n', 3],
    ['a\\', 1],
    ['a\\u00', 1],
    ['a\\u001f', 7],
  ]
  for (const [text, boundary] of table)
    t.equal(new StringLength().push(bytes(text)), boundary, text)
  for (const cut of [1, 2, 3]) {
    const part = new StringLength()
    t.equal(part.push(bytes('a😀').subarray(0, 1 + cut)), 1)
    t.equal(part.push(bytes('😀b"').subarray(cut)), 6 - cut)
  }
})

t.test('tokens that would make a string too long', async t => {
  const texts = ['a', 'abc', 'ab"', '"abcdef', 'é', '"', '\\n', 'u00', `"${'x'.repeat(20)}`]
  const lengths = new TokenLengths(texts.length, id => bytes(texts[id]!))
  t.same(lengths.longBegins, [8])
  const allowed = (text: string, most: number) => {
    const at = new StringLength()
    at.push(bytes(text))
    const mask = Int32Array.of(2 ** texts.length - 1)
    lengths.limit(mask, at, most)
    return texts.filter((_, id) => ((mask[0]! >>> id) & 1) === 1)
  }
  t.same(allowed('"', 20), texts)
  t.same(allowed('"0123456789', 12), ['a', 'ab"', '"abcdef', 'é', '"', '\\n', texts[8]])
  t.same(allowed('"0123456789', 10), ['"abcdef', '"', texts[8]])
  // Behind the backslash a quote is a character.
  t.same(allowed('"012345678\\', 11), ['a', 'ab"', 'é', '"', '\\n', 'u00'])
})
<<<<<<< HEAD
=======

t.test('strings of a grammar are as long as they may be, and no longer', async t => {
  const driver = await Driver.of(tokenizer)
  const schema = {
    type: 'array',
    items: { anyOf: [{ type: 'string', minLength: 15, maxLength: 40 }, { const: 'é' }] },
    minItems: 1,
    maxItems: 3,
  }
  const grammar = await driver.compile({ jsonSchema: schema })
  t.teardown(() => grammar.close())
  const next = random(2)
  const seen = new Set<number>()
  for (let i = 0; i < 8; i++) {
    const text = await driver.randomText(grammar, next, 400, 0.02)
    for (const item of text === undefined ? [] : (JSON.parse(text) as string[])) {
      const { length } = [...item]
      seen.add(length)
      t.ok(item === 'é' || (length >= 15 && length <= 40), text!)
    }
  }
  t.ok(Math.max(...seen) > 38, `up to ${Math.max(...seen)}`)
  for (const [text, isIn] of [
    [`["${'x'.repeat(40)}"]`, true],
    [`["${'x'.repeat(41)}"]`, false],
    [`["${'x'.repeat(39)}\\n","${'é'.repeat(40)}"]`, true],
    [`["${'x'.repeat(40)}\\n"]`, false],
    [`["${'x'.repeat(14)}"]`, false],
  ] as const)
    t.equal(await driver.accepts(grammar, driver.bytes(text)), isIn, text)
})

t.test('no token that ends within a character or an escape leads beyond a length', async t => {
  const directory = join(golden, 'tokenizer-byte-level', 'qwen-bpe')
  const driver = await Driver.of(await loadTokenizer(directory))
  const next = random(5)
  const table = [
    [30, 40],
    [0, 17],
    [39, 40],
    [17, 17],
  ] as const
  for (const [minLength, maxLength] of table) {
    const string = { type: 'string', minLength, maxLength }
    const jsonSchema = { type: 'array', items: string, minItems: 2, maxItems: 2 }
    const grammar = await driver.compile({ jsonSchema })
    t.teardown(() => grammar.close())
    for (let i = 0; i < 40; i++) {
      const text = await driver.randomText(grammar, next, 400, 0)
      const lengths = (JSON.parse(text!) as string[]).map(each => [...each].length)
      t.ok(
        lengths.every(length => length >= minLength && length <= maxLength),
        text!,
      )
    }
  }
})
>>>>>>> w-ga
