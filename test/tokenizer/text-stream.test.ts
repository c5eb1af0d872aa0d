import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { type PieceTable, pieceTable } from '../../lib/tokenizer/piece-table.js'
import { TextStream } from '../../lib/tokenizer/text-stream.js'
import { loadTokenizer, type Tokenizer } from '../../lib/tokenizer/tokenizer.js'
import { golden } from '../support/golden.js'
import { random } from '../support/random.js'

const goldens = join(golden, 'tokenizer')
const names = ['bpe', 'bpe-pad', 'bpe-plain', 'bpe-user-symbols']

/** The text of bytes: at each place a whole character, or one U+FFFD for one byte. */
function referenceBytes(bytes: number[]): string {
  let text = ''
  for (let i = 0; i < bytes.length; ) {
    const character = [1, 2, 3, 4]
      .map(length => Buffer.from(bytes.slice(i, i + length)))
      .find(
        part => part.toString('utf8').length > 0 && Buffer.from(part.toString('utf8')).equals(part),
      )
    text += character ? character.toString('utf8') : '\uFFFD'
    i += character ? character.length : 1
  }
  return text
}

/** Decoding as the reference data's README states it, all at once. */
function referenceDecode(
  tokenizer: Tokenizer,
  ids: readonly number[],
  dropsSpace: boolean,
): string {
  let text = ''
  let isFirst = true
  for (let i = 0; i < ids.length; i++) {
    const content = tokenizer.idToToken(ids[i]!)!
    if (tokenizer.isSpecial(ids[i]!)) continue
    const bytes: number[] = []
    while (i < ids.length && /^<0x..>$/.test(tokenizer.idToToken(ids[i]!)!)) {
      bytes.push(Number.parseInt(tokenizer.idToToken(ids[i++]!)!.slice(3, 5), 16))
    }
    if (bytes.length > 0) {
      text += referenceBytes(bytes)
      i--
    } else if (ids[i] === tokenizer.unkTokenId) text += ' \u2047 '
    else
      text += (isFirst && dropsSpace ? content.replace(/^\u2581/, '') : content).replaceAll(
        '\u2581',
        ' ',
      )
    isFirst = false
  }
  return text
}

// U+FFFD itself is in the texts of the reference data. Here it could not be told from a bad byte.
const characters = ['é', '中', '😀', '\u{10FFFF}', '\uFEFF', 'a']

/** Random ids. Many are bytes: whole characters, parts of characters, or any. */
function randomIds(next: () => number, tokenizer: Tokenizer): number[] {
  const firstByte = tokenizer.tokenToId('<0x00>')
  const ids: number[] = []
  const count = next() * 12
  while (ids.length < count) {
    if (firstByte === undefined || next() < 0.4) ids.push(Math.floor(next() * tokenizer.vocabSize))
    else if (next() < 0.3) ids.push(firstByte + 128 + Math.floor(next() * 128))
    else {
      const bytes = Buffer.from(characters.slice(Math.floor(next() * characters.length)).join(''))
      ids.push(...[...bytes.subarray(0, 1 + next() * 6)].map(byte => firstByte + byte))
    }
  }
  return ids
}

for (const name of names) {
  t.test(`${name}: streams of random ids`, async t => {
    const tokenizer = await loadTokenizer(join(goldens, name))
    const next = random(3)
    const wrong: unknown[] = []
    for (let round = 0; round < 3000; round++) {
      const ids = randomIds(next, tokenizer)
      const whole = tokenizer.decode(ids)
      const expected = referenceDecode(tokenizer, ids, name !== 'bpe-plain')
      if (whole !== expected) wrong.push({ ids, whole, expected })

      const prompt = ids.slice(0, next() * (ids.length + 1))
      const promptText = tokenizer.decode(prompt)
      const stream = tokenizer.stream({ prompt })
      const pieces = ids.slice(prompt.length).map(id => stream.push(id))
      const text = pieces.join('') + stream.flush()
      // A character that the new ids complete is theirs: the prompt's own text ends in U+FFFD for
      // its bytes.
      const shared = [0, 1, 2, 3]
        .map(count => promptText.slice(0, promptText.length - count))
        .find(start => whole.startsWith(start) && /^\uFFFD*$/.test(promptText.slice(start.length)))!
      if (text !== whole.slice(shared?.length)) {
        wrong.push({ prompt, ids, text, whole, promptText })
      }
      if (pieces.some(piece => /\p{Surrogate}/u.test(piece))) wrong.push({ ids, pieces })
    }
    t.strictSame(wrong.slice(0, 3), [])
  })

  t.test(`${name}: streams of texts give whole characters`, async t => {
    const tokenizer = await loadTokenizer(join(goldens, name))
    const { cases } = JSON.parse(await readFile(join(goldens, name, 'expected.json'), 'utf8'))
    const wrong: unknown[] = []
    for (const { ids, decoded } of cases as { ids: number[]; decoded: string }[]) {
      const stream = tokenizer.stream()
      const pieces = ids.map(id => stream.push(id))
      const added = decoded.includes('\uFFFD') ? '' : pieces.join('').match(/\uFFFD/)
      if (added || pieces.join('') + stream.flush() !== decoded)
        wrong.push({ ids, pieces, decoded })
    }
    t.strictSame(wrong, [])
  })
}

const entries = [
  { id: 0, content: '<s>', special: true },
  { id: 1, content: '\u2581a' },
  { id: 2, content: '\u2581' },
  ...[0xe4, 0xb8, 0xad, 0xf0, 0x9f, 0xed, 0xa0, 0xf4, 0x90].map((byte, i) => ({
    id: 3 + i,
    content: `byte ${byte}`,
    bytes: Uint8Array.of(byte),
  })),
]
const table: PieceTable = pieceTable(entries, { dropsFirstSpace: true })

function pieces(ids: number[], options = {}): string[] {
  const stream = new TextStream(table, options)
  return [...ids.map(id => stream.push(id)), stream.flush()]
}

t.test('the space of the first piece', async t => {
  t.strictSame(pieces([1, 1]), ['a', ' a', ''], 'goes at the start')
  t.strictSame(pieces([0, 1]), ['', 'a', ''], 'also behind special tokens')
  t.strictSame(pieces([2, 1]), ['', ' a', ''], 'once')
  t.strictSame(pieces([1], { prompt: [0, 1] }), [' a', ''], 'stays behind a prompt')
  t.strictSame(pieces([1], { prompt: [0] }), ['a', ''], 'goes if the prompt has no text')
  t.strictSame(
    pieces([0, 1], { skipSpecialTokens: false }),
    ['<s>', ' a', ''],
    'stays behind a visible <s>',
  )
  t.strictSame(new TextStream(pieceTable(entries)).push(1), ' a', 'stays without a dummy prefix')
})

t.test('bytes are held until a character is whole', async t => {
  t.strictSame(pieces([3, 4, 5]), ['', '', '中', ''])
  t.strictSame(pieces([3, 4]), ['', '', '\uFFFD\uFFFD'], 'one U+FFFD for each byte at the end')
  t.strictSame(pieces([3, 4, 1]), ['', '', '\uFFFD\uFFFD a', ''], 'and in front of text')
  t.strictSame(pieces([3, 3, 4, 5]), ['', '\uFFFD', '', '中', ''], 'as soon as it is certain')
  t.strictSame(pieces([6, 7, 3, 4, 5]), ['', '', '\uFFFD\uFFFD', '', '中', ''])
  t.strictSame(pieces([8, 9]), ['', '\uFFFD\uFFFD', ''], 'half a surrogate pair is no character')
  t.strictSame(pieces([10, 11]), ['', '\uFFFD\uFFFD', ''], 'nor is what U+10FFFF comes before')
  t.strictSame(
    pieces([3, 0, 4, 5]),
    ['', '\uFFFD', '\uFFFD', '\uFFFD', ''],
    'a special token ends the bytes',
  )
  t.strictSame(pieces([99, 1]), ['', 'a', ''], 'an id without a token gives no text')
})

t.test('a prompt that ends inside of a character', async t => {
  t.strictSame(pieces([5], { prompt: [3, 4] }), ['中', ''], 'the whole character')
  t.strictSame(pieces([1], { prompt: [3, 4] }), [' a', ''], 'its U+FFFD are the prompt’s text')
  t.strictSame(pieces([3], { prompt: [3, 4] }), ['', '\uFFFD'])
  t.strictSame(pieces([], { prompt: [3, 4] }), [''])
})
