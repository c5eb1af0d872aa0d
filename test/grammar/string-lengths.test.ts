/** Lengths of long strings, which are counted beside the grammar. */
import t from 'tap'
import { StringLength, TokenLengths } from '../../lib/grammar/string-lengths.js'

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
