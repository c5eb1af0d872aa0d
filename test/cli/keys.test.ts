/** Bytes of a keyboard as keys and texts. */
import t from 'tap'
import { EntryLines, oneLine } from '../../lib/cli/entry-lines.js'
import { type Key, KeyParser } from '../../lib/cli/keys.js'

/** The keys of chunks, with typed bytes as text. */
function keys(...chunks: (string | Buffer)[]): (string | { pasted: string })[] {
  const parser = new KeyParser()
  const found = chunks.flatMap(chunk => [...parser.push(Buffer.from(chunk))])
  return joined(found)
}

/** Bytes that follow each other are one text, however they were cut. */
function joined(found: readonly Key[]): (string | { pasted: string })[] {
  const all: (string | { pasted: string })[] = []
  let typed = Buffer.alloc(0)
  const flush = () => {
    if (typed.length > 0) all.push(`typed ${typed.toString()}`)
    typed = Buffer.alloc(0)
  }
  for (const key of found) {
    if (typeof key === 'object' && 'bytes' in key) {
      typed = Buffer.concat([typed, key.bytes])
      continue
    }
    flush()
    all.push(key)
  }
  flush()
  return all
}

t.test('typed text, and each way to end a line', async t => {
  t.same(keys('a\rb\nc\r\nd'), [
    ...['typed a', 'return', 'typed b', 'return'],
    ...['typed c', 'return', 'typed d'],
  ])
  t.same(keys('a\x1b\rb\x03\x1b[A'), [
    ...['typed a', 'newline', 'typed b', 'interrupt', 'typed \x1b[A'],
  ])
})

t.test('a pasted block is one key, wherever the bytes are cut', async t => {
  const bytes = Buffer.from('é\x1b[200~one\r\n\ttwo é\rthree\x1b[31m\n\n\x1b[201~!\r')
  const expected = ['typed é', { pasted: 'one\n\ttwo é\nthree[31m' }, 'typed !', 'return']
  for (let cut = 0; cut <= bytes.length; cut++)
    t.same(keys(bytes.subarray(0, cut), bytes.subarray(cut)), expected, `cut at ${cut}`)
  t.same(keys(...Array.from(bytes, byte => Buffer.from([byte]))), expected, 'byte by byte')
})

t.test('line breaks of Unicode, and none at the end', async t => {
  t.same(keys('\x1b[200~a\u2028b\u2029c\r\n\x1b[201~\x1b[200~\x1b[201~'), [
    { pasted: 'a\nb\nc' },
    { pasted: '' },
  ])
})

t.test('Ctrl-C ends a block whose end never comes', async t => {
  t.same(keys('\x1b[200~abc', 'def\x03x'), ['interrupt', 'typed x'])
  t.same(keys('\x1b[200~abc\x1b[20', '\x03x'), ['interrupt', 'typed x'])
  t.same(keys('\x1b[200~abc\x1b[201~\x03'), [{ pasted: 'abc' }, 'interrupt'])
})

t.test('an escape that begins no mark goes on with the next byte', async t => {
  t.same(keys('\x1b', '[B\x1b[2', 'x'), ['typed \x1b[B\x1b[2x'])
})

t.test('a backslash at the end goes on', async t => {
  const lines = new EntryLines()
  t.equal(lines.add('one'), 'one')
  t.equal(lines.add('one\\'), undefined)
  t.equal(lines.isOpen, true)
  t.equal(lines.add('\\'), undefined)
  t.equal(lines.add('three\\n'), 'one\n\nthree\\n')
  t.equal(lines.isOpen, false)
  lines.add('gone\\')
  lines.clear()
  t.equal(lines.add(oneLine('a\nb')), 'a\nb')
})
