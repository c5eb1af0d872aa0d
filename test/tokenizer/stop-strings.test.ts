import t from 'tap'
import { StopStrings } from '../../lib/tokenizer/stop-strings.js'
import { random } from '../support/random.js'

function run(stop: string | string[], chunks: string[]) {
  const stops = new StopStrings(stop)
  const pieces = chunks.map(chunk => stops.push(chunk).text)
  return { pieces: [...pieces, stops.flush()], stop: stops.stop }
}

t.test('text is held back while it may begin a stop string', async t => {
  t.strictSame(run('END', ['a', 'E', 'N', 'x']), {
    pieces: ['a', '', '', 'ENx', ''],
    stop: undefined,
  })
  t.strictSame(run('END', ['aEN', 'D', 'b']), { pieces: ['a', '', '', ''], stop: 'END' })
  t.strictSame(run('END', ['EEND']), { pieces: ['E', ''], stop: 'END' })
  t.strictSame(
    run('END', ['xEN']),
    { pieces: ['x', 'EN'], stop: undefined },
    'flush gives what is held',
  )
  t.strictSame(run('\n\n', ['a\n', 'b\n', '\nc']), { pieces: ['a', '\nb', '', ''], stop: '\n\n' })
  t.strictSame(run('aab', ['aa', 'aa', 'b']), { pieces: ['', 'aa', '', ''], stop: 'aab' })
  t.strictSame(run('😀!', ['x😀', '😀', '!y']), { pieces: ['x', '😀', '', ''], stop: '😀!' })
})

t.test('which stop string counts', async t => {
  t.strictSame(
    run(['abcd', 'bc'], ['xabcd']),
    { pieces: ['xa', ''], stop: 'bc' },
    'the first to be complete',
  )
  t.strictSame(
    run(['c', 'abc'], ['xabc']),
    { pieces: ['x', ''], stop: 'abc' },
    'of those the longest',
  )
  t.strictSame(run(['ab', 'abc'], ['abc']), { pieces: ['', ''], stop: 'ab' })
  t.strictSame(run([], ['abc']), { pieces: ['abc', ''], stop: undefined }, 'none')
})

t.test('after a stop there is no more text', async t => {
  const stops = new StopStrings('.')
  t.strictSame(stops.push('a.b'), { text: 'a', stop: '.' })
  t.strictSame(stops.push('c'), { text: '', stop: '.' })
  t.equal(stops.flush(), '')
})

t.test('wrong stop strings are errors', async t => {
  t.throws(() => new StopStrings(''), { name: 'RangeError', message: /stop\[0\]/ })
  t.throws(() => new StopStrings(['a', 1 as unknown as string]), {
    name: 'TypeError',
    message: /stop\[1\]/,
  })
})

t.test('random texts and cuts', async t => {
  const next = random(4)
  const word = (length: number) =>
    Array.from({ length }, () => 'ab'[Math.floor(next() * 2)]).join('')
  const wrong: unknown[] = []
  for (let round = 0; round < 5000; round++) {
    const stops = Array.from({ length: 1 + next() * 3 }, () => word(1 + next() * 5))
    const text = word(next() * 30)
    const chunks: string[] = []
    for (let at = 0; at < text.length; at += chunks.at(-1)!.length)
      chunks.push(text.slice(at, at + 1 + next() * 4))
    let expected = text
    let stop: string | undefined
    for (let end = 1; end <= text.length && stop === undefined; end++) {
      const found = stops.filter(candidate => text.slice(0, end).endsWith(candidate))
      stop = found.sort((a, b) => b.length - a.length)[0]
      if (stop !== undefined) expected = text.slice(0, end - stop.length)
    }
    const got = run(stops, chunks)
    if (got.pieces.join('') !== expected || got.stop !== stop)
      wrong.push({ stops, chunks, got, expected, stop })
  }
  t.strictSame(wrong.slice(0, 3), [])
})
