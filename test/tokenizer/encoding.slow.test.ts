/** Encoding gives what the merge loop of @huggingface/tokenizers gives, on the whole text. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { loadTokenizer, type Tokenizer } from '../../lib/tokenizer/tokenizer.js'
import { root } from '../support/golden.js'
import { random } from '../support/random.js'
import { libraryEncoder } from './library-encoder.js'
import { basePieces, normal, writeModel } from './model-proto.js'

const bundled = join(root, 'models/books-7m')
const golden = ['bpe', 'bpe-pad', 'bpe-plain', 'bpe-user-symbols'].map(name =>
  join(root, 'test/golden/tokenizer', name),
)
const english = await readFile(join(bundled, 'heldout.txt'), 'utf8')
const units = [
  ...'abcdefghet a\n\0éü中文😀👍\u2581<>|/\uFFFD',
  '\ud800',
  '\udc00',
  ...['<s>', '</s>', '<unk>', '<|u|>', 'the', '  ', '   ', '\u2581\u2581', 'ing', 'e t'],
]

function randomText(next: () => number): string {
  const isLong = next() < 0.05
  if (next() < 0.3) {
    const start = Math.floor(next() * english.length)
    return english.slice(start, start + next() * (isLong ? 9000 : 400))
  }
  const pool = Array.from({ length: 1 + next() * 10 }, () => units[(next() * units.length) | 0]!)
  const length = next() * (isLong ? 9000 : 200)
  return Array.from({ length }, () => pool[(next() * pool.length) | 0]).join('')
}

/** Texts that are encoded in another way than the library encodes them. */
function differences(tokenizer: Tokenizer, texts: readonly string[]) {
  const expected = libraryEncoder(tokenizer)
  return texts.flatMap(text => {
    const want = expected(text)
    const got = tokenizer.encode(text, { addSpecialTokens: false })
    const isLongest = text.length > got.length * tokenizer.maxTokenLength
    const isSame = got.length === want.length && got.every((id, i) => id === want[i])
    return isSame && !isLongest ? [] : [{ text: text.slice(0, 100), got: got.slice(0, 20), want }]
  })
}

t.test('random texts, with the golden tokenizers and the bundled one', async t => {
  const next = random(11)
  for (const directory of [...golden, bundled]) {
    const tokenizer = await loadTokenizer(directory)
    const texts = Array.from({ length: 150 }, () => randomText(next))
    t.strictSame(differences(tokenizer, texts), [], directory)
  }
})

t.test('a part of any length without a place to cut', async t => {
  // Ranks that come in every order: rising and falling with length, and all equal.
  const scores = [(i: number) => -i, (i: number) => i, () => 0, (i: number) => (i * 7) % 5]
  const next = random(12)
  for (const [round, score] of scores.entries()) {
    const texts = Array.from({ length: 126 }, (_, i) => (i + 2).toString(2).slice(1))
    const named = texts.map(text => text.replaceAll('0', 'a').replaceAll('1', 'b'))
    const runs = Array.from({ length: 12 }, (_, i) => 'a'.repeat(i + 7))
    const pieces = [...new Set([...named, ...runs])].map((text, i) => normal(text, score(i)))
    const model = writeModel({ pieces: [...basePieces, normal('\u2581', -1e6), ...pieces] })
    const tokenizer = await loadTokenizer(t.testdir({ 'tokenizer.model': Buffer.from(model) }))
    const samples = [20, 46, 47, 48, 49, 50, 100, 3000].flatMap(length => [
      'a'.repeat(length),
      'ab'.repeat(length / 2),
      Array.from({ length }, () => (next() < 0.5 ? 'a' : 'b')).join(''),
      Array.from({ length }, () => (next() < 0.05 ? 'b' : 'a')).join(''),
    ])
    t.strictSame(differences(tokenizer, samples), [], `scores ${round}`)
  }
})

/** Forms of another library's tokenizer.json: what each changes. */
function forms(json: Record<string, unknown>) {
  const model = json.model as { vocab: Record<string, number> }
  const metaspace = (scheme: string) => ({
    normalizer: null,
    pre_tokenizer: {
      type: 'Metaspace',
      replacement: '\u2581',
      prepend_scheme: scheme,
      split: false,
    },
  })
  const token = (content: string, options: object) => ({
    id: model.vocab[content] ?? 900_000 + content.length,
    content,
    ...options,
  })
  const added = [
    ...(json.added_tokens as object[]),
    token('<|u|>', { normalized: false, lstrip: true }),
    token('ing', { normalized: true, rstrip: true }),
    token('e t', { special: false }),
  ]
  const replace = (pattern: string, content: string) => ({
    type: 'Replace',
    pattern: { String: pattern },
    content,
  })
  const normalizers = [
    replace('aa', 'b'),
    { type: 'Prepend', prepend: '\u2581' },
    replace(' ', '\u2581'),
    replace('\u2581\u2581\u2581', 'xyz'),
  ]
  const decoder = {
    type: 'Sequence',
    decoders: [replace('\u2581', ' '), { type: 'Fuse' }],
  }
  return {
    plain: {},
    'ignore_merges, fuse_unk': { model: { ...model, ignore_merges: true, fuse_unk: true } },
    'no bytes': { model: { ...model, byte_fallback: false }, decoder },
    'no bytes, fused': { model: { ...model, byte_fallback: false, fuse_unk: true }, decoder },
    'no bytes, no unknown token': {
      model: { ...model, byte_fallback: false, unk_token: null },
      decoder,
    },
    'added tokens': { added_tokens: added },
    replaces: { normalizer: { type: 'Sequence', normalizers } },
    'Metaspace first': { ...metaspace('first'), added_tokens: added },
    'Metaspace always': metaspace('always'),
    'Metaspace never': metaspace('never'),
  }
}

t.test('a part behind a token has no prefix, in whichever text the token is found', async t => {
  const json = JSON.parse(JSON.stringify(await loadTokenizer(golden[0]!)))
  json.model.sentencepiece = undefined
  const form = forms(json)['Metaspace first']
  const load = (normalized: boolean) => {
    const added_tokens = [{ id: 900_005, content: '<|v|>', normalized }]
    const file = JSON.stringify({ ...json, ...form, added_tokens, post_processor: null })
    return loadTokenizer(t.testdir({ 'tokenizer.json': file }))
  }
  const [raw, normalized] = [await load(false), await load(true)]
  for (const text of ['the<|v|>the', '<|v|>the', ' the<|v|> the<|v|>'])
    t.same(normalized.encode(text), raw.encode(text), text)
})

t.test("forms of another library's tokenizer.json", async t => {
  const next = random(13)
  for (const directory of [golden[0]!, golden[2]!]) {
    const json = JSON.parse(JSON.stringify(await loadTokenizer(directory)))
    json.model.sentencepiece = undefined
    for (const [name, form] of Object.entries(forms(json))) {
      const file = JSON.stringify({ ...json, ...form })
      const tokenizer = await loadTokenizer(t.testdir({ 'tokenizer.json': file }))
      const texts = Array.from({ length: 60 }, () => randomText(next))
      t.strictSame(differences(tokenizer, texts), [], name)
    }
  }
})

t.test('normalizers and pre-tokenizers, where a text is cut into pieces', async t => {
  const json = JSON.parse(JSON.stringify(await loadTokenizer(golden[0]!)))
  json.model.sentencepiece = undefined
  const replace = (pattern: string, content: string) => ({
    type: 'Replace',
    pattern: { String: pattern },
    content,
  })
  const mark = { type: 'Metaspace', replacement: '\u2581', split: false }
  const sequence = (...normalizers: object[]) => ({ type: 'Sequence', normalizers })
  const forms: object[] = [
    { normalizer: replace('aa', 'b') },
    { normalizer: replace('aba', 'the') },
    { normalizer: replace('😀', 'e') },
    { normalizer: replace('a.[', 'e') },
    { normalizer: replace('-', '\\1') },
    { normalizer: replace('ab'.repeat(200), 'ing') },
    { normalizer: sequence(replace('a', ''), { type: 'Prepend', prepend: '\u2581' }) },
    { normalizer: sequence(replace('aa', 'a'), replace('aa', 'b'), replace('ab', 'e t')) },
    ...['first', 'always', 'never'].map(prepend_scheme => ({
      normalizer: replace('a', ''),
      pre_tokenizer: { ...mark, prepend_scheme },
    })),
  ]
  const parts = ['a', 'aab', 'ab', 'aba', 'a.[', '😀', 'a-', ' ', ' a']
  const texts = parts.flatMap(part =>
    [4094, 4095, 4096, 4097, 12_289].map(length => part.repeat(length).slice(0, length)),
  )
  const files = forms.map(form => JSON.stringify({ ...json, ...form }))
  for (const [i, file] of files.entries()) {
    const tokenizer = await loadTokenizer(t.testdir({ 'tokenizer.json': file }))
    t.strictSame(differences(tokenizer, texts), [], JSON.stringify(forms[i]).slice(0, 200))
  }
})

t.test('the most characters of a token', async t => {
  const most = async (pieces: Parameters<typeof writeModel>[0]) => {
    const directory = t.testdir({ 'tokenizer.model': Buffer.from(writeModel(pieces)) })
    return (await loadTokenizer(directory)).maxTokenLength
  }
  const plain = [...basePieces, normal('a'), normal('b')]
  const abab = [normal('ab'), normal('abab')]
  t.equal(await most({ pieces: plain }), 2, 'a character of two UTF-16 units')
  t.equal(await most({ pieces: [...plain, ...abab] }), 4)
  t.equal(await most({ pieces: [...plain, normal('abba')] }), 2, 'a piece that nothing merges to')
  t.equal(await most({ pieces: [...plain, { text: '<|u|>', type: 4 }] }), 5, 'a user symbol')
  const unknown = { text: 'x', type: 2 }
  t.equal(
    await most({ pieces: [unknown, ...basePieces.slice(1)] }),
    Number.POSITIVE_INFINITY,
    'an unknown piece that is a character',
  )
  const withoutBytes = { pieces: [...basePieces.slice(0, 3), normal('a')], trainer: { 35: 0 } }
  t.equal(await most(withoutBytes), Number.POSITIVE_INFINITY, 'characters in a row are one token')

  const json = JSON.parse(JSON.stringify(await loadTokenizer(golden[0]!)))
  json.model.sentencepiece = undefined
  const form = async (change: object) => {
    const file = JSON.stringify({ ...json, ...change })
    return (await loadTokenizer(t.testdir({ 'tokenizer.json': file }))).maxTokenLength
  }
  t.ok((await form({})) < 40)
  const pattern = { String: 'aa' }
  const shrinking = { type: 'Replace', pattern, content: 'b' }
  t.equal(await form({ normalizer: shrinking }), Number.POSITIVE_INFINITY)
  t.ok((await form({ normalizer: { ...shrinking, content: 'bb' } })) < 40)
  const added = { id: 900_000, content: '\u2603'.repeat(99), normalized: false }
  t.equal(await form({ added_tokens: [added] }), 99)
  t.equal(await form({ added_tokens: [{ ...added, lstrip: true }] }), Number.POSITIVE_INFINITY)
})
