import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { MoeppError } from '../../lib/errors.js'
import { PIECE_TYPE, type Piece, parseSentencePiece } from '../../lib/tokenizer/sentencepiece.js'
import { loadTokenizer } from '../../lib/tokenizer/tokenizer.js'
import { random } from '../support/random.js'
import { basePieces, type ModelProto, normal, writeModel } from './model-proto.js'

/**
 * SentencePiece's BPE as its documentation states it, without any data structure: the truth for the
 * tests below.
 */
function referenceEncode(text: string, pieces: readonly Piece[]): number[] {
  const ofType = (type: number) => pieces.filter(piece => piece.type === type)
  const scores = new Map(ofType(PIECE_TYPE.normal).map(piece => [piece.text, piece.score]))
  const userDefined = ofType(PIECE_TYPE.userDefined).map(piece => piece.text)
  const symbols: { text: string; isFrozen: boolean }[] = []
  let rest = text === '' ? '' : `\u2581${text.replaceAll(' ', '\u2581')}`
  while (rest !== '') {
    const [longest] = userDefined
      .filter(symbol => rest.startsWith(symbol))
      .sort((a, b) => b.length - a.length)
    const symbol = longest ?? String.fromCodePoint(rest.codePointAt(0)!)
    symbols.push({ text: symbol, isFrozen: longest !== undefined })
    rest = rest.slice(symbol.length)
  }
  for (;;) {
    let best = -1
    let bestScore = Number.NEGATIVE_INFINITY
    for (let i = 0; i + 1 < symbols.length; i++) {
      const [left, right] = [symbols[i]!, symbols[i + 1]!]
      const score = left.isFrozen || right.isFrozen ? undefined : scores.get(left.text + right.text)
      if (score !== undefined && score > bestScore) [best, bestScore] = [i, score]
    }
    if (best === -1) break
    const merged = symbols[best]!.text + symbols[best + 1]!.text
    symbols.splice(best, 2, { text: merged, isFrozen: false })
  }
  const ids = new Map(pieces.map((piece, id) => [piece.text, id]))
  return symbols.flatMap(
    ({ text }) => ids.get(text) ?? [...Buffer.from(text)].map(byte => byte + 3),
  )
}

function randomText(next: () => number, alphabet: string, length: number): string {
  const characters = [...alphabet]
  return Array.from({ length }, () => characters[Math.floor(next() * characters.length)]).join('')
}

t.test('random vocabularies with equal scores encode as SentencePiece does', async t => {
  const directory = t.testdir()
  const next = random(1)
  const wrong: unknown[] = []
  for (let round = 0; round < 60; round++) {
    const alphabet = ['ab', 'ab\u2581', 'aé中😀\u2581'][round % 3]!
    const texts = new Set(
      Array.from({ length: 40 }, () => randomText(next, alphabet, 2 + next() * 4)),
    )
    // Some characters are no piece of their own, and pieces need not be reachable by merges of
    // other pieces.
    for (const character of alphabet) if (next() < 0.7) texts.add(character)
    const levels = [1, 3, 1000][Math.floor(next() * 3)]!
    const added = [...texts].map((text, i) => ({
      text,
      score: -Math.floor(next() * levels),
      type: round % 4 === 3 && i < 3 ? PIECE_TYPE.userDefined : PIECE_TYPE.normal,
    }))
    const pieces = [...basePieces, ...added]
    await writeFile(join(directory, 'tokenizer.model'), writeModel({ pieces }))
    const tokenizer = await loadTokenizer(directory)
    const copy = t.testdir({ copy: { 'tokenizer.json': JSON.stringify(tokenizer) } })
    const reloaded = await loadTokenizer(join(copy, 'copy'))
    for (let i = 0; i < 40; i++) {
      const text = randomText(next, `${alphabet} `, next() * 40)
      const expected = referenceEncode(text, pieces)
      for (const [name, got] of [
        ['model', tokenizer.encode(text, { addSpecialTokens: false })],
        ['json', reloaded.encode(text, { addSpecialTokens: false })],
      ]) {
        if (JSON.stringify(got) !== JSON.stringify(expected))
          wrong.push({ round, name, text, got, expected })
      }
    }
  }
  t.strictSame(wrong.slice(0, 5), [])
})

t.test('equal scores merge leftmost first', async t => {
  const pieces = [
    ...basePieces,
    normal('a'),
    normal('b'),
    normal('ab'),
    normal('ba'),
    normal('\u2581'),
  ]
  const tokenizer = await loadTokenizer(
    t.testdir({ 'tokenizer.model': Buffer.from(writeModel({ pieces })) }),
  )
  const encode = (text: string) =>
    tokenizer.encode(text, { addSpecialTokens: false }).map(id => tokenizer.idToToken(id))
  t.strictSame(encode('aba'), ['\u2581', 'ab', 'a'])
  t.strictSame(encode('bab'), ['\u2581', 'ba', 'b'])
})

t.test('pieces with the names of object members', async t => {
  const names = ['__proto__', 'constructor', 'toString', '0', '1']
  const pieces = [
    ...basePieces,
    ...names.map(name => ({ ...normal(name), type: PIECE_TYPE.userDefined })),
  ]
  const model = Buffer.from(writeModel({ pieces: [...pieces, normal('\u2581')] }))
  const tokenizer = await loadTokenizer(t.testdir({ 'tokenizer.model': model }))
  const reloaded = await loadTokenizer(
    `${t.testdir({ json: { 'tokenizer.json': JSON.stringify(tokenizer) } })}/json`,
  )
  for (const { encode, decode } of [tokenizer, reloaded].map(bind)) {
    const ids = encode(names.join(''))
    t.strictSame(ids, [1, 264, 259, 260, 261, 262, 263])
    t.equal(decode(ids), names.join(''))
  }
})

function bind(tokenizer: Awaited<ReturnType<typeof loadTokenizer>>) {
  return {
    encode: (text: string) => tokenizer.encode(text),
    decode: (ids: number[]) => tokenizer.decode(ids),
  }
}

t.test('the unknown piece decodes to unk_surface', async t => {
  const pieces = [...basePieces.slice(0, 3), normal('a'), normal('\u2581')]
  const bytes = writeModel({ pieces, trainer: { 35: 0 }, unkSurface: '[?]' })
  const tokenizer = await loadTokenizer(t.testdir({ 'tokenizer.model': Buffer.from(bytes) }))
  const ids = tokenizer.encode('axya', { addSpecialTokens: false })
  t.strictSame(ids, [4, 3, 0, 3])
  t.equal(tokenizer.decode(ids), 'a[?]a')
})

t.test('kinds and contents that are refused', async t => {
  const pieces = [...basePieces, normal('a')]
  const cases: [string, ModelProto, RegExp][] = [
    ['unigram', { pieces, trainer: { 3: 1 } }, /model_type is unigram, expected bpe/],
    ['word', { pieces, trainer: { 3: 3 } }, /model_type is word, expected bpe/],
    [
      'charsmap',
      { pieces, charsmap: new Uint8Array(5) },
      /precompiled_charsmap is 5 bytes, expected none/,
    ],
    [
      'extra spaces',
      { pieces, normalizer: { 4: 1 } },
      /remove_extra_whitespaces is true, expected false/,
    ],
    ['no escape', { pieces, normalizer: { 5: 0 } }, /escape_whitespaces is false, expected true/],
    [
      'suffix',
      { pieces, trainer: { 24: 1 } },
      /treat_whitespace_as_suffix is true, expected false/,
    ],
    ['no pieces', { pieces: [] }, /has no unknown piece, expected one/],
    ['twice', { pieces: [...pieces, normal('a')] }, /piece 260 \("a"\) occurs twice/],
    ['empty', { pieces: [...pieces, normal('')] }, /piece 260 is empty/],
    [
      'long',
      { pieces: [...pieces, normal('a'.repeat(513))] },
      /piece 260 is 513 long, expected <= 512/,
    ],
    ['unused', { pieces: [...pieces, { text: 'b', type: 5 }] }, /is of type unused/],
    ['type 7', { pieces: [...pieces, { text: 'b', type: 7 }] }, /has type 7, expected 1 to 6/],
    [
      'NaN',
      { pieces: [...pieces, normal('b', Number.NaN)] },
      /has score NaN, expected a finite number/,
    ],
    [
      'two unknown',
      { pieces: [...pieces, { text: 'b', type: 2 }] },
      /second unknown piece; the first is 0/,
    ],
    [
      'byte name',
      { pieces: [...pieces, { text: '<0x0a>', type: 6 }] },
      /expected a name like <0x0A>/,
    ],
    [
      'bytes',
      { pieces: pieces.slice(0, 258) },
      /has 255 byte pieces, expected 256 with byte_fallback true/,
    ],
    ['no fallback', { pieces, trainer: { 35: 0 } }, /has 256 byte pieces, expected 0/],
  ]
  for (const [name, model, message] of cases) {
    t.throws(
      () => parseSentencePiece(writeModel(model), 'x'),
      { code: 'ERR_BAD_TOKENIZER', message },
      name,
    )
  }
  const malformed: [string, number[], RegExp][] = [
    ['empty file', [], /model_type is unigram/],
    ['field past the end', [0x0a, 0x7f, 0x61], /field 1 at byte 0 ends at 129, expected <= 3/],
    ['varint without end', [0x08, 0xff, 0xff], /malformed at byte 0/],
    ['group', [0x0b], /malformed at byte 0: wire type 3/],
    ['field number 0', [0x00, 0x00], /malformed at byte 0: field number 0/],
    ['wire type', [0x08, 0x01], /field 1 at byte 0 has wire type 0, expected 2/],
    ['bad UTF-8', [0x12, 2, 0x18, 2, 0x0a, 3, 0x0a, 1, 0xff], /field 1 is not valid UTF-8/],
  ]
  for (const [name, bytes, message] of malformed) {
    const normalizer = name === 'bad UTF-8' ? [0x1a, 2, 0x20, 0] : []
    const file = Uint8Array.from([...normalizer, ...bytes])
    t.throws(() => parseSentencePiece(file, 'x'), { code: 'ERR_BAD_TOKENIZER', message }, name)
  }
})

function mutate(bytes: Uint8Array, next: () => number): Uint8Array {
  const at = () => Math.floor(next() * bytes.length)
  const kind = Math.floor(next() * 4)
  if (kind === 0) return bytes.slice(0, at())
  if (kind === 1) {
    const junk = Uint8Array.from({ length: 1 + next() * 12 }, () => next() * 256)
    const where = at()
    return Uint8Array.from([...bytes.subarray(0, where), ...junk, ...bytes.subarray(where)])
  }
  const copy = bytes.slice()
  for (let i = 0; i <= next() * 4; i++) {
    // A flipped bit, or a byte that makes lengths and varints large.
    copy[at()]! ^= kind === 2 ? 1 << Math.floor(next() * 8) : 0xff
  }
  return copy
}

t.test('a damaged tokenizer.model loads or is an ERR_BAD_TOKENIZER', async t => {
  const directory = t.testdir()
  const next = random(2)
  const texts = ['a', 'ab', 'ba', '\u2581', '\u2581a', 'é', '中', 'aba']
  const pieces = [
    ...basePieces,
    ...texts.map((text, i) => normal(text, -i)),
    { text: '<|u|>', type: 4 },
  ]
  const original = writeModel({ pieces })
  let loaded = 0
  const wrong: unknown[] = []
  for (let round = 0; round < 3000; round++) {
    // Half of the damage goes to the part behind the many byte pieces.
    const cut = round % 2 === 0 ? 0 : original.length - 140
    const tail = mutate(original.subarray(cut), next)
    await writeFile(join(directory, 'tokenizer.model'), [original.subarray(0, cut), tail])
    try {
      const tokenizer = await loadTokenizer(directory)
      tokenizer.decode(tokenizer.encode('ab <|u|> aé\n'))
      loaded++
    } catch (error) {
      if (!(error instanceof MoeppError) || error.code !== 'ERR_BAD_TOKENIZER')
        wrong.push({ round, error })
    }
  }
  t.strictSame(wrong.slice(0, 5), [])
  t.ok(loaded > 100 && loaded < 2900, `${loaded} of 3000 load`)
})
