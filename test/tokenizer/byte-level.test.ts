/** Byte-level BPE: the golden cases, and a plain reference over random Unicode text. */
import { cp, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { TokenizerJson } from '../../lib/tokenizer/json-form.js'
import { StopStrings } from '../../lib/tokenizer/stop-strings.js'
import { loadTokenizer, type Tokenizer } from '../../lib/tokenizer/tokenizer.js'
import { golden as goldens } from '../support/golden.js'
import { random } from '../support/random.js'
import {
  GPT2,
  LLAMA3,
  QWEN,
  type ReferenceForm,
  referenceDecode,
  referenceEncode,
} from './byte-level-reference.js'

const root = join(goldens, 'tokenizer-byte-level')

interface Expected {
  readonly vocab_size: number
  readonly cases: readonly {
    readonly text: string
    readonly ids: readonly number[]
    readonly decoded: string
    readonly decoded_without_special?: string
  }[]
  readonly decode_cases: readonly { readonly ids: readonly number[]; readonly text: string }[]
}

/** Texts hold control characters, which test output does not survive: only faults are listed. */
function faults(tokenizer: Tokenizer, { cases, decode_cases }: Expected): unknown[] {
  const wrong: unknown[] = []
  const expect = (got: unknown, expected: unknown, input: unknown) => {
    if (JSON.stringify(got) !== JSON.stringify(expected)) wrong.push({ input, got, expected })
  }
  const all = { skipSpecialTokens: false }
  for (const { text, ids, decoded, decoded_without_special } of cases) {
    expect(tokenizer.encode(text), ids, text)
    expect(tokenizer.decode(ids, all), decoded, ids)
    expect(tokenizer.decode(ids), decoded_without_special ?? decoded, ids)
  }
  for (const { ids, text } of decode_cases) expect(tokenizer.decode(ids, all), text, ids)
  return wrong
}

for (const name of await readdir(root)) {
  t.test(`${name} is exact, in each form of its merges and after a round trip`, async t => {
    const expected: Expected = JSON.parse(await readFile(join(root, name, 'expected.json'), 'utf8'))
    const tokenizer = await loadTokenizer(join(root, name))
    t.ok(expected.cases.length > 60)
    t.strictSame(faults(tokenizer, expected), [])
    t.equal(tokenizer.vocabSize, expected.vocab_size)
    t.equal(tokenizer.bosTokenId, undefined)
    t.equal(tokenizer.eosTokenId, tokenizer.tokenToId('<|im_end|>'))
    t.equal(tokenizer.padTokenId, tokenizer.tokenToId('<|endoftext|>'))
    t.ok(tokenizer.isSpecial(tokenizer.tokenToId('<|im_start|>')!))
    t.notOk(tokenizer.isSpecial(tokenizer.tokenToId('<think>')!))
    for (const { text, ids } of expected.cases)
      t.ok(text.length <= ids.length * tokenizer.maxTokenLength, 'maxTokenLength is a bound')

    const directory = t.testdir({})
    await cp(join(root, name), directory, { recursive: true })
    const { model, ...json } = tokenizer.toJSON()
    const merges = model.merges.map(merge =>
      typeof merge === 'string' ? merge.split(' ') : merge.join(' '),
    )
    for (const changed of [{}, { merges }]) {
      const file = JSON.stringify({ ...json, model: { ...model, ...changed } })
      await writeFile(join(directory, 'tokenizer.json'), file)
      t.strictSame(faults(await loadTokenizer(directory), expected), [])
    }
  })
}

const golden = JSON.parse(await readFile(join(root, 'qwen-bpe/tokenizer.json'), 'utf8'))
const split = (Regex: string, more = {}) => ({
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false, ...more },
    { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
  ],
})
const token = (id: number, content: string, flags = {}) => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: false,
  ...flags,
})
const added = [
  ...golden.added_tokens,
  token(3000, '<left>', { lstrip: true }),
  token(3001, '<right>', { rstrip: true, special: true }),
  token(3002, 'wörd', { single_word: true }),
  token(3003, 'cafe\u0301', { normalized: true }),
  token(3004, '<thinking>'),
  token(3005, ' \u3000', { rstrip: true }),
  token(3006, '\u{1F600}', { lstrip: true, rstrip: true, single_word: true }),
  // In the letters of bytes it would stand for another text.
  token(3007, '<é>'),
  // The second, which is raw, goes first wherever they overlap.
  token(3008, 'oldman', { normalized: true }),
  token(3009, 'mano'),
  // The longest that stands at a place counts.
  token(3010, '<é>é'),
]

const forms: Record<string, [change: object, pattern: string | undefined, isNfc: boolean]> = {
  qwen: [{}, QWEN, true],
  'Removed, inverted': [
    { pre_tokenizer: split(QWEN, { behavior: 'Removed', invert: true }) },
    QWEN,
    true,
  ],
  'no normalizer': [{ normalizer: null, pre_tokenizer: split(QWEN) }, QWEN, false],
  llama3: [{ normalizer: null, pre_tokenizer: split(LLAMA3) }, LLAMA3, false],
  'gpt2 as a Split': [{ pre_tokenizer: split(GPT2) }, GPT2, true],
  gpt2: [{ pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false } }, GPT2, true],
  'no pattern': [
    { pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: false } },
    undefined,
    true,
  ],
  'added tokens': [{ added_tokens: added }, QWEN, true],
  'added tokens, no normalizer': [{ added_tokens: added, normalizer: null }, QWEN, false],
  ignore_merges: [{ model: withWholeWords(), post_processor: null }, QWEN, true],
}

/** A token that no merge gives. */
function withWholeWords() {
  return { ...golden.model, ignore_merges: true, vocab: { ...golden.model.vocab, Ġxyzzy: 2900 } }
}

const strange = [
  ...["'s", "'S", "'ſ", "'ll", "'LL", "'lL", "'re", "'", 'ſ', '\u212A', ' ', '  ', '\r\n', '\n'],
  ...['\t', '\u0085', '\uFEFF', '\u00A0', '\u3000', '\u2028', '\u200B', '\u180E', '\u001C', '\v'],
  ...['1', '٣', '½', 'Ⅷ', '²', '𝟙', 'a', 'É', 'e\u0301', '\u0301', '\u0323', '\u0345', '\u0F73'],
  ...['가', '\u1100', '\u1161', '\u11A8', '中', '\u{2F800}', '\u0958', '😀', '👨‍👩', '𝕏', '_', '-'],
  ...['\ud800', '\udc00', '\0', '\u007F', '\uFFFD', 'Å', 'ﬁ', '\u093F', '\u{1D165}', '\u{16D67}'],
  ...['<left>', '<right>', 'wörd', 'café', 'cafe\u0301', '<think>', '<thinking>', '<|im_end|>'],
  ...[
    '<|im_',
    '<think',
    'oldman',
    'oldmano',
    ' xyzzy',
    'xyzzy',
    ' \u3000',
    '<é>',
    '<é>é',
    'the',
    ' old',
    ' man',
    'é',
  ],
]

function randomText(next: () => number): string {
  const anyCharacter = () => String.fromCodePoint(Math.floor(next() ** 3 * 0x110000))
  const pool = Array.from({ length: 1 + next() * 12 }, () =>
    next() < 0.2 ? anyCharacter() : strange[(next() * strange.length) | 0]!,
  )
  const length = next() < 0.05 ? 9000 * next() : 40 * next()
  return Array.from({ length }, () => pool[(next() * pool.length) | 0]).join('')
}

for (const [name, [change, pattern, isNfc]] of Object.entries(forms)) {
  t.test(`${name}: random texts, encoded as the reference does`, async t => {
    const json: TokenizerJson = { ...golden, ...change }
    const tokenizer = await loadTokenizer(t.testdir({ 'tokenizer.json': JSON.stringify(json) }))
    const form: ReferenceForm = { json, pattern, isNfc }
    const next = random(21)
    const wrong: unknown[] = []
    for (let round = 0; round < 120; round++) {
      // The reference merges in the square of a word's length.
      const text = randomText(next).slice(0, round % 20 ? 400 : 9000)
      const got = tokenizer.encode(text)
      const expected = referenceEncode(text, form)
      const isTooLong = text.length > got.length * tokenizer.maxTokenLength
      if (isTooLong || JSON.stringify(got) !== JSON.stringify(expected))
        wrong.push(JSON.stringify({ text: text.slice(0, 200), got, expected }).slice(0, 1000))
    }
    t.strictSame(wrong.slice(0, 3), [])
  })
}

t.test('special tokens in a text stay text if told so', async t => {
  const load = (json: object) =>
    loadTokenizer(t.testdir({ 'tokenizer.json': JSON.stringify({ ...golden, ...json }) }))
  const plain = added.filter(({ special }) => !special)
  const [tokenizer, without] = [
    await load({ added_tokens: added }),
    await load({ added_tokens: plain }),
  ]
  const split = { splitSpecialTokens: true }
  const next = random(23)
  for (let round = 0; round < 100; round++) {
    const text = `${randomText(next).slice(0, 300)}<|im_end|>`
    const ids = tokenizer.encode(text, split)
    t.notOk(ids.some(id => tokenizer.isSpecial(id)))
    t.same(ids, without.encode(text))
    t.same(await tokenizer.encodeAsync(text, split), ids)
  }
  t.same(tokenizer.encode('<|im_end|>', { splitSpecialTokens: false }), [2002])
  t.throws(() => tokenizer.encode('', { splitSpecialTokens: 1 } as object), TypeError)
})

t.test('files that say the same in other words', async t => {
  const { decoder, model } = golden
  const same: object[] = [
    { model: { ...model, unk_token: '', dropout: 0 } },
    { decoder: { type: 'Sequence', decoders: [decoder, { type: 'Fuse' }] } },
  ]
  const text = 'Ja 👨‍👩‍👧 <|im_end|> é'
  const ids = (await loadTokenizer(join(root, 'qwen-bpe'))).encode(text)
  for (const change of same) {
    const json = JSON.stringify({ ...golden, ...change })
    const tokenizer = await loadTokenizer(t.testdir({ 'tokenizer.json': json }))
    t.same(tokenizer.encode(text), ids)
    t.equal(tokenizer.decode(ids, { skipSpecialTokens: false }), text)
    t.equal(tokenizer.unkTokenId, undefined)
  }
})

t.test('without a word about roles there are none', async t => {
  const vocab = { ...golden.model.vocab, '<s>': 2900, '</s>': 2901, '<unk>': 2902 }
  const json = { ...golden, model: { ...golden.model, vocab } }
  const tokenizer = await loadTokenizer(t.testdir({ 'tokenizer.json': JSON.stringify(json) }))
  const { bosTokenId, eosTokenId, unkTokenId } = tokenizer
  t.same([bosTokenId, eosTokenId, unkTokenId], [undefined, undefined, undefined])
})

t.test('random ids decode as the reference does, in one go and token by token', async t => {
  const json: TokenizerJson = { ...golden, added_tokens: added }
  const tokenizer = await loadTokenizer(t.testdir({ 'tokenizer.json': JSON.stringify(json) }))
  const ids = [...json.added_tokens.map(({ id }) => id), 2500, 9999]
  const next = random(22)
  const wrong: unknown[] = []
  const randomId = () => {
    if (next() < 0.2) return ids[(next() * ids.length) | 0]!
    // The first 256 are single bytes, those behind 94 no ASCII.
    return next() < 0.6 ? 94 + ((next() * 162) | 0) : (next() * 2000) | 0
  }
  for (let round = 0; round < 3000; round++) {
    const list = Array.from({ length: next() * 12 }, randomId)
    for (const skipSpecialTokens of [true, false]) {
      const expected = referenceDecode(list, json, skipSpecialTokens)
      const got = tokenizer.decode(list, { skipSpecialTokens })
      if (got !== expected) wrong.push({ list, got, expected })
      const prompt = list.slice(0, next() * (list.length + 1))
      const stream = tokenizer.stream({ prompt, skipSpecialTokens })
      let text = ''
      for (const id of list.slice(prompt.length)) text += stream.push(id)
      text += stream.flush()
      // A character that the new ids complete is theirs: the prompt's text ends in U+FFFD for it.
      const before = referenceDecode(prompt, json, skipSpecialTokens)
      const shown = expected.startsWith(before) ? before : before.slice(0, -1)
      if (text !== expected.slice(shown.length)) wrong.push({ prompt, list, text, expected })
    }
  }
  t.strictSame(wrong.slice(0, 3), [])
})

t.test('a character of several tokens comes out whole, also for stop strings', async t => {
  const tokenizer = await loadTokenizer(join(root, 'qwen-bpe'))
  const text = 'Ja 👨‍👩‍👧 𝕏 中 <|im_end|> é'
  const stream = tokenizer.stream({ skipSpecialTokens: false })
  const stop = new StopStrings('𝕏')
  const pieces = tokenizer.encode(text).map(id => stream.push(id))
  t.notOk(pieces.some(piece => /\uFFFD|\p{Surrogate}/u.test(piece)))
  t.equal(pieces.join('') + stream.flush(), text)
  t.ok(pieces.includes(''), 'some tokens are parts of characters')
  t.equal(pieces.map(piece => stop.push(piece).text).join(''), 'Ja 👨‍👩‍👧 ')
  t.equal(stop.stop, '𝕏')
})
