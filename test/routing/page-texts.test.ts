/** Numbers and names as the report's page writes them. */
import t from 'tap'
import {
  decimal,
  large,
  namesOf,
  seconds,
  symbols,
  visible,
} from '../../lib/routing/page/format.js'
import { surveyed } from './fixture.js'

t.test('numbers', async t => {
  t.same(
    [0, 12, 999.6, 1000, 12_345, 999_999, 8.66e6, 3e12, 2e18].map(value => large(value)),
    [...['0', '12', '1.00 k', '1.00 k', '12.3 k', '1.00 M', '8.66 M', '3.00 T', '2000 P']],
  )
  t.equal(large(2.5e6, 'B'), '2.50 MB')
  t.equal(large(null), '–')
  t.same([2, 0.0123, 4.5e-6].map(seconds), ['2.00 s', '12.3 ms', '4.50 µs'])
  t.same(
    [-1.234, Number.NaN, undefined, null].map(value => decimal(value)),
    [...['−1.23', '–', '–', '–']],
  )
})

t.test('controls are seen, letters stay', async t => {
  t.equal(visible('a\0\u202eb\u2066\x7f'), 'a\\u{00}\\u{202e}b\\u{2066}\\u{7f}')
  t.equal(visible('mañana 木 שלום\n\t'), 'mañana 木 שלום\n\t')
  t.equal(symbols(' a\n'), '␣a⏎')
  t.equal(symbols(''), '(part of a character)')
})

t.test('names are short, and differ', async t => {
  const { subject } = surveyed({ tokens: 5, layers: 1, topK: 1, experts: { ffn: 2 } })
  const names = (...of: [model: string, file: string][]) =>
    namesOf(of.map(([model, file]) => ({ ...subject, model, file })))
  t.same(names(['m/a', 'f/x.txt']), ['x.txt'])
  t.same(names(['m/a', 'f/x.txt'], ['m/b', 'f/y.txt']), ['a · x.txt', 'b · y.txt'])
  t.same(names(['m/a', 'x.txt'], ['m/b', 'x.txt']), ['a', 'b'])
  t.same(names(['m/a', 'f/x.txt'], ['m/a', 'g/x.txt']), ['f/x.txt', 'g/x.txt'])
})
