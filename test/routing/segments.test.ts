/** Tokens of a text that comes in pieces are those of the whole text. */
import { join } from 'node:path'
import t from 'tap'
import { segments } from '../../lib/routing/segments.js'
import { windows } from '../../lib/routing/windows.js'
import { loadTokenizer, type Tokenizer } from '../../lib/tokenizer/tokenizer.js'
import { golden, root } from '../support/golden.js'
import { random } from '../support/random.js'
import { inPieces } from './character-tokenizer.js'

const BOOKS = await loadTokenizer(join(root, 'models', 'books-7m'))
const QWEN = await loadTokenizer(join(golden, 'tokenizer-byte-level', 'qwen-bpe'))

/** Some parts, drawn until there are enough characters. */
function drawn(parts: readonly string[], length: number, seed: number): string {
  const next = random(seed)
  let text = ''
  while (text.length < length) text += parts[Math.floor(next() * parts.length)]
  return text
}

const WORDS = ['the', ' old', ' man', 'ning', "'s", "don't", ' 42', '3.14', ', ', '. ', ' — ']
const BLANKS = ['\n', '\n\n', '\r\n', '\t', '  ', '    ', '\u00a0', '\u2028', '\u0085', ' \n ']
const ODD = [
  '\0',
  '\ud800',
  '\udc00',
  '\ufeff',
  '\u0301',
  'é',
  'e\u0301',
  '漢字',
  '한국',
  '😀',
  '👩‍👩‍👧',
]
const SPECIAL = [
  '<s>',
  '</s>',
  '<|im_end|>',
  '<|im_start|>',
  '<|endoftext|>',
  '<unk>',
  '▁',
  '<0x0A>',
]
/** Two cuts. */
const LENGTH = 34_000

const TEXTS: Readonly<Record<string, string>> = {
  'lines of words': drawn([...WORDS, '\n'], LENGTH, 1),
  'many blanks': drawn([...WORDS, ...BLANKS], LENGTH, 2),
  'odd characters': drawn([...WORDS, ...BLANKS, ...ODD], LENGTH, 3),
  'special tokens': drawn([...WORDS, ...SPECIAL, '\n'], LENGTH, 4),
  'one line of words': drawn(WORDS, LENGTH, 5),
  'lines without space': drawn(['漢字', '仮名', '。', '，', '文', '\n'], LENGTH, 6),
  'CRLF alone': drawn(['word', ' and', '\r\n'], LENGTH, 7),
  'a BOM and NULs': `\ufeff${drawn(['\0', 'a', ' b', '\n'], LENGTH, 8)}`,
  'lone surrogates': drawn(['\ud83d', '\ude00', 'a ', '\n'], LENGTH, 9),
  'combining marks behind line ends': drawn(['e', '\n\u0301', 'a\n', ' b'], LENGTH, 10),
  'indented lines': drawn(['\n    if', ' x', ' = 1', ':\n\t\t', '}\n'], LENGTH, 11),
  'nothing but line ends': '\n'.repeat(LENGTH),
  short: 'The old man',
  'one space': ' ',
}

async function inSegments(tokenizer: Tokenizer, text: string, lengths: readonly number[]) {
  const ids: number[] = []
  let length = 0
  for await (const segment of segments(tokenizer, inPieces(text, lengths))) {
    ids.push(...segment.ids)
    length += segment.length
  }
  return { ids, length }
}

for (const [name, tokenizer] of [
  ['SentencePiece with a space in front', BOOKS],
  ['byte-level', QWEN],
] as const) {
  for (const [kind, text] of Object.entries(TEXTS)) {
    t.test(`${name}: ${kind}`, async t => {
      const expected = tokenizer.encode(text, { addSpecialTokens: false })
      const whole = await inSegments(tokenizer, text, [1 << 20])
      t.equal(whole.length, text.length)
      t.equal(firstDifference(whole.ids, expected), -1, 'tokens of the whole text')
      for (const lengths of [[7], [1, 4096, 13]]) {
        const { ids } = await inSegments(tokenizer, text, lengths)
        t.equal(firstDifference(ids, whole.ids), -1, `pieces of ${lengths}`)
      }
    })
  }
}

function firstDifference(a: readonly number[], b: readonly number[]): number {
  if (a.length !== b.length) return Math.min(a.length, b.length)
  return a.findIndex((id, i) => id !== b[i])
}

t.test('texts without any space are cut between tokens', async t => {
  for (const tokenizer of [BOOKS, QWEN]) {
    for (let seed = 20; seed < 40; seed++) {
      const text = drawn(['word', 'ning', 'old', '12', '。', '，', '漢字', 'é'], 17_000, seed)
      const { ids } = await inSegments(tokenizer, text, [1 << 20])
      const expected = tokenizer.encode(text, { addSpecialTokens: false })
      t.equal(firstDifference(ids, expected), -1, `seed ${seed}`)
    }
  }
})

t.test('tokenizers with unknown characters, symbols of users, and no byte tokens', async t => {
  const parts = ['word', ' and', '漢字', '😀', '<sep>', '\n漢', 'é\n', ' \n ', '\n']
  const text = drawn(parts, LENGTH, 12)
  for (const folder of ['bpe', 'bpe-plain', 'bpe-user-symbols']) {
    const tokenizer = await loadTokenizer(join(golden, 'tokenizer', folder))
    const expected = tokenizer.encode(text, { addSpecialTokens: false })
    const { ids } = await inSegments(tokenizer, text, [5000])
    t.equal(firstDifference(ids, expected), -1, folder)
  }
})

t.test('a line that cannot be cut cleanly loses no character', async t => {
  for (const tokenizer of [BOOKS, QWEN]) {
    for (const text of ['a'.repeat(50_000), '😀'.repeat(20_001)]) {
      const { ids, length } = await inSegments(tokenizer, text, [3])
      t.equal(length, text.length)
      t.equal(tokenizer.decode(ids), text)
      const expected = tokenizer.encode(text, { addSpecialTokens: false }).length
      t.ok(Math.abs(ids.length - expected) <= 4 * 3, 'a few tokens beside each cut differ at most')
    }
  }
})

t.test('no text has no segment', async t => {
  t.same(await inSegments(BOOKS, '', [1]), { ids: [], length: 0 })
})

t.test('windows have the same tokens, with begin tokens in front', async t => {
  const text = TEXTS['many blanks']!
  const expected = BOOKS.encode(text, { addSpecialTokens: false })
  for (const [begin, most] of [
    [[1], 100],
    [[], 64],
    [[1], 2],
  ] as const) {
    const short = most === 2 ? text.slice(0, 50) : text
    const wanted = most === 2 ? BOOKS.encode(short, { addSpecialTokens: false }) : expected
    const ids: number[] = []
    let number = 0
    const lengths: number[] = []
    for await (const window of windows(BOOKS, inPieces(short, [11]), begin, most)) {
      const isExpected =
        window.number === number++ &&
        window.first === ids.length &&
        begin.every((id, i) => window.ids[i] === id)
      if (!isExpected) t.fail(`window ${window.number}`)
      lengths.push(window.ids.length)
      ids.push(...window.ids.slice(begin.length))
    }
    t.ok(lengths.slice(0, -1).every(length => length === most))
    t.same(ids, wanted)
  }
})
