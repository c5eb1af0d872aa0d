/** Places of tokens in words. */
import { join } from 'node:path'
import t from 'tap'
import { PlaceReader, WORD_PLACES } from '../../lib/routing/places.js'
import { loadTokenizer, type Tokenizer } from '../../lib/tokenizer/tokenizer.js'
import { golden, root } from '../support/golden.js'

const BOOKS = await loadTokenizer(join(root, 'models', 'books-7m'))
const QWEN = await loadTokenizer(join(golden, 'tokenizer-byte-level', 'qwen-bpe'))

function placesOf(tokenizer: Tokenizer, ids: readonly number[]): string[] {
  const places: string[] = []
  const reader = new PlaceReader(tokenizer.pieces, (place, at) => {
    places[at] = WORD_PLACES[place]!
  })
  const stream = tokenizer.stream({ skipSpecialTokens: false })
  for (const [at, id] of ids.entries()) reader.push(id, stream.push(id), at)
  reader.end()
  return places
}

/** Tokens by their names; each must exist. */
function ofTokens(tokenizer: Tokenizer, names: readonly string[]): string[] {
  return placesOf(
    tokenizer,
    names.map(name => {
      const id = tokenizer.tokenToId(name)
      if (id === undefined) throw new Error(`no token ${name}`)
      return id
    }),
  )
}

t.test('words of one and of several tokens', async t => {
  t.same(ofTokens(BOOKS, ['▁the']), ['whole'])
  t.same(ofTokens(BOOKS, ['▁the', 's', 'e']), ['first', 'middle', 'last'])
  t.same(ofTokens(BOOKS, ['▁the', '▁the', 's', '▁the']), ['whole', 'first', 'last', 'whole'])
  t.same(ofTokens(BOOKS, ['s', '.', 's', '▁', 's']), [
    'whole',
    'punctuation',
    'whole',
    'other',
    'whole',
  ])
  t.same(ofTokens(QWEN, ['s', 'Ġ', 's', 's']), ['whole', 'other', 'first', 'last'])
})

t.test('numbers, punctuation, space, and parts of characters', async t => {
  t.same(ofTokens(BOOKS, ['<0x0A>', '<s>', ',']), ['other', 'whole', 'punctuation'])
  // The bytes of 漢, which the last one completes; it is a letter.
  t.same(ofTokens(BOOKS, ['<0xE6>', '<0xBC>', '<0xA2>']), ['other', 'other', 'whole'])
  t.same(ofTokens(BOOKS, ['<0x31>', '<0x2E>', '<0x61>']), ['number', 'punctuation', 'whole'])
  // The same byte completes a letter, é, and a symbol, ©.
  t.same(ofTokens(BOOKS, ['<0xC3>', '<0xA9>', '<0xC2>', '<0xA9>']), [
    'other',
    'whole',
    'other',
    'punctuation',
  ])
})

t.test('parts of a character do not end a word', async t => {
  t.same(ofTokens(BOOKS, ['▁the', '<0xC3>', '<0xAF>', 's']), ['first', 'other', 'middle', 'last'])
  // A combining acute accent.
  t.same(ofTokens(BOOKS, ['s', '<0xCC>', '<0x81>', '.']), [
    'first',
    'other',
    'other',
    'punctuation',
  ])
})

t.test('no token has no place', async t => {
  t.same(placesOf(BOOKS, []), [])
})
