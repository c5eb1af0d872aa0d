import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { MoeppError } from '../../lib/errors.js'
import { loadTokenizer } from '../../lib/tokenizer/tokenizer.js'
import { basePieces, normal, random, writeModel } from './model-proto.js'

const bundled = join(import.meta.dirname, '../../models/books-7m')
const pieces = [
  ...basePieces,
  normal('\u2581'),
  normal('a'),
  normal('b'),
  normal('\u2581a'),
  normal('ab', -1),
]
const model = Buffer.from(writeModel({ pieces: [...pieces, { text: '<|u|>', type: 4 }] }))
const [mark, a, b, markA, ab, user] = [259, 260, 261, 262, 263, 264]

type Files = Record<string, string | Buffer | object>

/** A directory with tokenizer.model and these files; an object is written as JSON. */
function checkpoint(t: Tap, files: Files = {}): string {
  const written = Object.entries({ 'tokenizer.model': model, ...files }).map(([name, content]) => [
    name,
    typeof content === 'string' || Buffer.isBuffer(content) ? content : JSON.stringify(content),
  ])
  return t.testdir(Object.fromEntries(written))
}

type Tap = Pick<typeof t, 'testdir'>

t.test('the bundled model', async t => {
  const tokenizer = await loadTokenizer(bundled)
  t.strictSame(tokenizer.encode('The old man'), [1, 379, 663, 432])
  t.equal(tokenizer.vocabSize, 2048)
  t.strictSame(tokenizer.specialTokens, [
    { id: 1, content: '<s>' },
    { id: 2, content: '</s>' },
  ])
  const { greedy } = JSON.parse(await readFile(join(bundled, 'reference.json'), 'utf8'))
  t.equal(tokenizer.decode(greedy.ids), greedy.text)
  t.equal(
    tokenizer.decode([...greedy.prompt_ids, ...greedy.ids]),
    `${greedy.prompt} ${greedy.text}`,
  )
})

t.test('a long text: cutting it changes nothing', async t => {
  const tokenizer = await loadTokenizer(bundled)
  const text = await readFile(join(bundled, 'heldout.txt'), 'utf8')
  const ids = tokenizer.encode(text)
  t.equal(tokenizer.decode(ids), text)
  const [first, ...rest] = text.split('\n')
  const lines = rest.map(line =>
    tokenizer.encode(`\n${line}`, { addSpecialTokens: false }).slice(1),
  )
  t.strictSame(
    ids,
    [...tokenizer.encode(first!), ...lines.flat()],
    'as line by line, less the space in front',
  )
  for (let at = 0; at < text.length; at += 9973) {
    const part = text.slice(at, at + 300)
    t.equal(tokenizer.decode(tokenizer.encode(part)), part)
  }
})

t.test('special tokens as tokenizer_config.json says', async t => {
  const ids = async (config: object) =>
    (await loadTokenizer(checkpoint(t, { 'tokenizer_config.json': config }))).encode('a')
  t.strictSame(await ids({}), [1, markA], 'the defaults of LlamaTokenizer')
  t.strictSame(await ids({ add_bos_token: false }), [markA])
  t.strictSame(await ids({ add_eos_token: true }), [1, markA, 2])
  t.strictSame(
    await ids({ add_prefix_space: false }),
    [1, markA],
    'legacy ignores add_prefix_space',
  )
  t.strictSame(await ids({ add_prefix_space: false, legacy: false }), [1, a])
  t.strictSame(await ids({ bos_token: '</s>' }), [2, markA])
  t.strictSame(await ids({ bos_token: { content: '</s>' } }), [2, markA])
  t.strictSame(await ids({ bos_token: null }), [markA], 'no bos token')
  await t.rejects(
    ids({ bos_token: null, add_bos_token: true }),
    /add_bos_token is true, expected false/,
  )
  await t.rejects(
    ids({ bos_token: '[B]' }),
    /bos_token "\[B\]" is nothing, expected a token of the vocabulary/,
  )
  await t.rejects(ids({ add_bos_token: 'yes' }), /add_bos_token is "yes", expected a boolean/)
  await t.rejects(ids({ eos_token: 3 }), { code: 'ERR_BAD_TOKENIZER', message: /eos_token is 3/ })

  const tokenizer = await loadTokenizer(checkpoint(t))
  t.strictSame(tokenizer.encode('a', { addSpecialTokens: false }), [markA])
  t.strictSame(tokenizer.encode('', {}), [1])
  t.equal(tokenizer.padTokenId, undefined)
})

t.test('roles come from special_tokens_map.json where tokenizer_config.json is silent', async t => {
  const files = {
    'special_tokens_map.json': {
      bos_token: '</s>',
      eos_token: { content: '<s>' },
      pad_token: '<s>',
    },
    'tokenizer_config.json': { eos_token: '</s>' },
  }
  const tokenizer = await loadTokenizer(checkpoint(t, files))
  t.equal(tokenizer.bosTokenId, 2)
  t.equal(tokenizer.eosTokenId, 2)
  t.equal(tokenizer.padTokenId, 1)
})

t.test('added tokens', async t => {
  const load = (decoder: object, extra: Files = {}) =>
    loadTokenizer(
      checkpoint(t, { 'tokenizer_config.json': { added_tokens_decoder: decoder }, ...extra }),
    )
  const token = (content: string, special = true) => ({ content, special })
  const tokenizer = await load({
    0: token('<unk>'),
    1: token('<s>'),
    264: token('<|u|>'),
    270: token('[PAD]'),
  })
  t.equal(tokenizer.vocabSize, 271)
  t.ok(tokenizer.isSpecial(270))
  t.notOk(tokenizer.isSpecial(265), 'an id without a token')
  t.equal(tokenizer.decode([markA, 270, 265, 999, 0]), 'a \u2047 ')
  t.equal(tokenizer.decode([markA, 270, user], { skipSpecialTokens: false }), 'a[PAD]<|u|>')
  t.equal(tokenizer.decode([markA, user]), 'a', 'a user-defined symbol may be special')
  t.notOk(tokenizer.encode('a[PAD]').includes(270), 'special tokens never come out of a text')
  t.ok(tokenizer.encode('a<|u|>').includes(user))
  const copy = await loadTokenizer(t.testdir({ 'tokenizer.json': JSON.stringify(tokenizer) }))
  t.strictSame(copy.encode('a[PAD]<|u|>'), tokenizer.encode('a[PAD]<|u|>'))
  t.ok(copy.isSpecial(270))

  await t.rejects(
    load({ 270: token('[X]', false) }),
    /added token "\[X\]" is "an ordinary one", expected special/,
  )
  await t.rejects(load({ 260: token('[X]') }), /piece 260 is "a", expected "\[X\]"/)
  await t.rejects(load({ 270: token('a') }), { code: 'ERR_BAD_TOKENIZER' })
  await t.rejects(load({ x: token('a') }), /expected a token id as its key/)
  const named = await load(
    {},
    { 'added_tokens.json': { '[P]': 265 }, 'special_tokens_map.json': { pad_token: '[P]' } },
  )
  t.equal(named.padTokenId, 265)
})

t.test('the chat template', async t => {
  const load = async (files: Files) => (await loadTokenizer(checkpoint(t, files))).chatTemplate
  t.equal(await load({}), undefined)
  t.equal(await load({ 'tokenizer_config.json': { chat_template: '{{ x }}' } }), '{{ x }}')
  const list = [
    { name: 'tool', template: 'T' },
    { name: 'default', template: 'D' },
  ]
  t.equal(await load({ 'tokenizer_config.json': { chat_template: list } }), 'D')
  t.equal(
    await load({ 'chat_template.jinja': 'J', 'tokenizer_config.json': { chat_template: 'C' } }),
    'J',
  )
})

t.test('texts and arguments', async t => {
  const tokenizer = await loadTokenizer(checkpoint(t))
  const plain = { addSpecialTokens: false }
  t.strictSame(tokenizer.encode('ab', plain), [markA, b], 'scores decide')
  t.strictSame(tokenizer.encode('<s>', plain).includes(1), false)
  t.strictSame(
    tokenizer.encode('\uD800a', plain),
    tokenizer.encode('\uFFFDa', plain),
    'half a surrogate pair',
  )
  t.equal(tokenizer.decode([mark, ab]), 'ab')
  t.throws(() => tokenizer.encode(5 as unknown as string), {
    name: 'TypeError',
    message: /^text: /,
  })
  t.throws(() => tokenizer.encode('a', { add: true } as object), {
    name: 'TypeError',
    message: 'unknown option "add": expected one of addSpecialTokens',
  })
  t.throws(() => tokenizer.decode([1.5]), {
    name: 'RangeError',
    message: 'ids[0]: expected a token id, got 1.5',
  })
  t.throws(() => tokenizer.decode([-1]), { name: 'RangeError' })
  t.throws(() => tokenizer.decode('1' as unknown as number[]), { name: 'TypeError' })
  t.throws(() => tokenizer.stream({ prompt: [-1] }), {
    name: 'RangeError',
    message: /^prompt\[0\]/,
  })
})

t.test('missing and unreadable files', async t => {
  await t.rejects(loadTokenizer(t.testdir({})), {
    code: 'ERR_NOT_FOUND',
    message: /no tokenizer.json and no tokenizer.model/,
  })
  await t.rejects(loadTokenizer(join(t.testdirName, 'absent')), { code: 'ERR_NOT_FOUND' })
  await t.rejects(loadTokenizer(t.testdir({ 'tokenizer.json': {} })), {
    code: 'ERR_NOT_FOUND',
    message: /is not a file/,
  })
  await t.rejects(loadTokenizer(checkpoint(t, { 'tokenizer.json': '{' })), {
    code: 'ERR_BAD_TOKENIZER',
    message: /is not JSON/,
  })
  await t.rejects(loadTokenizer(checkpoint(t, { 'tokenizer_config.json': [] })), {
    code: 'ERR_BAD_TOKENIZER',
  })
})

t.test("another library's tokenizer.json", async t => {
  const golden = join(import.meta.dirname, '../golden/tokenizer/bpe')
  const { cases } = JSON.parse(await readFile(join(golden, 'expected.json'), 'utf8'))
  const json = JSON.parse(JSON.stringify(await loadTokenizer(golden)))
  delete json.model.sentencepiece
  const forms = {
    'Prepend and Replace': json,
    'merges as strings': {
      ...json,
      model: { ...json.model, merges: json.model.merges.map((m: string[]) => m.join(' ')) },
    },
  }
  for (const [name, form] of Object.entries(forms)) {
    const tokenizer = await loadTokenizer(t.testdir({ 'tokenizer.json': JSON.stringify(form) }))
    const wrong = cases.filter(
      ({ text, ids, decoded }: { text: string; ids: number[]; decoded: string }) => {
        const got = tokenizer.encode(text, { addSpecialTokens: false })
        return JSON.stringify(got) !== JSON.stringify(ids) || tokenizer.decode(ids) !== decoded
      },
    )
    t.strictSame(wrong, [], name)
    t.equal(tokenizer.encode('a')[0], 1)
  }
})

t.test('kinds of tokenizer.json that are refused', async t => {
  const json = JSON.parse(JSON.stringify(await loadTokenizer(checkpoint(t))))
  const cases: [object, RegExp][] = [
    [{ model: { ...json.model, type: 'Unigram' } }, /model.type is "Unigram", expected 'BPE'/],
    [{ model: { ...json.model, dropout: 0.1 } }, /model.dropout is 0.1, expected null/],
    [{ model: { ...json.model, vocab: { a: 0, b: 0 } } }, /an id of its own/],
    [{ model: { ...json.model, vocab: { a: -1 } } }, /a token id from 0/],
    [
      { model: { ...json.model, merges: [['a', 'x']] } },
      /merges\[0\] is \["a", "x"\], expected two pieces/,
    ],
    [{ model: { ...json.model, merges: [['b', 'b']] } }, /two pieces that make a third/],
    [{ normalizer: { type: 'NFKC' } }, /normalizer 0.type is "NFKC"/],
    [
      { normalizer: { type: 'Precompiled', precompiled_charsmap: '' } },
      /normalizer 0.type is "Precompiled"/,
    ],
    [{ pre_tokenizer: { type: 'ByteLevel' } }, /pre_tokenizer.type is "ByteLevel"/],
    [
      { decoder: { type: 'ByteLevel' } },
      /decoder is "ByteLevel", expected a Sequence of Replace, ByteFallback/,
    ],
    [
      { post_processor: { type: 'RobertaProcessing' } },
      /post_processor.type is "RobertaProcessing"/,
    ],
    [
      { added_tokens: [{ id: 5, content: '<s>' }] },
      /added_tokens\[0\].id is 5, expected the id of "<s>" alone/,
    ],
  ]
  for (const [change, message] of cases) {
    const directory = t.testdir({ 'tokenizer.json': JSON.stringify({ ...json, ...change }) })
    await t.rejects(loadTokenizer(directory), { code: 'ERR_BAD_TOKENIZER', message })
  }
})

type Json = Record<string, unknown>

/** Every object and array in a JSON value, but only a few of the members of large ones. */
function nodes(value: unknown): Json[] {
  if (typeof value !== 'object' || value === null) return []
  const members = Object.values(value)
  return [value as Json, ...(members.length > 50 ? [] : members.flatMap(nodes))]
}

t.test('a damaged tokenizer.json loads or is an ERR_BAD_TOKENIZER', async t => {
  const json = JSON.stringify(await loadTokenizer(checkpoint(t)))
  const plain = JSON.parse(json)
  delete plain.model.sentencepiece
  const next = random(5)
  const junk = [
    null,
    -1,
    1e99,
    '',
    'x',
    '\u2581',
    [],
    {},
    true,
    2 ** 31,
    [null],
    [[]],
    'BPE',
    '$&',
    0.5,
    ['a'],
  ]
  const wrong: unknown[] = []
  let loaded = 0
  for (let round = 0; round < 1500; round++) {
    const copy = JSON.parse(round % 2 ? json : JSON.stringify(plain))
    const all = nodes(copy)
    const node = all[Math.floor(next() * all.length)]!
    const keys = Object.keys(node)
    const key = keys[Math.floor(next() * keys.length)] ?? 'x'
    if (next() < 0.2) delete node[key]
    else node[key] = junk[Math.floor(next() * junk.length)]
    try {
      const tokenizer = await loadTokenizer(t.testdir({ 'tokenizer.json': JSON.stringify(copy) }))
      const ids = tokenizer.encode('ab <|u|> aé\n')
      if (ids.some(id => !Number.isInteger(id))) wrong.push({ round, ids })
      tokenizer.decode(ids)
      loaded++
    } catch (error) {
      if (!(error instanceof MoeppError) || error.code !== 'ERR_BAD_TOKENIZER')
        wrong.push({ round, key, value: node[key], error })
    }
  }
  t.strictSame(wrong.slice(0, 5), [])
  t.ok(loaded > 100 && loaded < 1400, `${loaded} of 1500 load`)
})

t.test('a file that nests deeper than the stack is an ERR_BAD_TOKENIZER', async t => {
  const json = JSON.parse(JSON.stringify(await loadTokenizer(checkpoint(t))))
  const mark = '"DEEP"'
  const written = (value: object) =>
    JSON.stringify(value, (_, each) => (each === undefined ? 'DEEP' : each))
  const deep = { array: '['.repeat(1e5) + ']'.repeat(1e5), object: nested(1e5) }
  const model = (change: object) => ({ ...json, model: { ...json.model, ...change } })
  const cases: [string, object][] = [
    ['tokenizer_config.json', { bos_token: undefined }],
    ['tokenizer_config.json', { add_bos_token: undefined }],
    ['tokenizer_config.json', { chat_template: undefined }],
    ['tokenizer_config.json', { added_tokens_decoder: { 0: undefined } }],
    ['special_tokens_map.json', { eos_token: undefined }],
    ['added_tokens.json', { x: undefined }],
    ['tokenizer.json', { ...json, normalizer: undefined }],
    ['tokenizer.json', { ...json, post_processor: { type: undefined } }],
    ['tokenizer.json', model({ vocab: undefined })],
    ['tokenizer.json', model({ merges: [undefined] })],
    ['tokenizer.json', model({ sentencepiece: undefined })],
  ]
  for (const [name, value] of cases) {
    for (const text of Object.values(deep)) {
      const directory = checkpoint(t, { [name]: written(value).replace(mark, () => text) })
      await t.rejects(loadTokenizer(directory), { code: 'ERR_BAD_TOKENIZER' }, written(value))
    }
  }
})

function nested(depth: number): string {
  return `${'{"a":'.repeat(depth)}0${'}'.repeat(depth)}`
}

t.test('a hole among the ids of pieces', async t => {
  const json = JSON.parse(JSON.stringify(await loadTokenizer(checkpoint(t))))
  const model = {
    ...json.model,
    byte_fallback: false,
    vocab: { '<unk>': 0, a: 5 },
    merges: [],
    sentencepiece: { scores: [0, 0], types: [2, 1], unk_surface: '' },
  }
  const decoders = [json.decoder.decoders[0], { type: 'Fuse' }]
  const decoder = { type: 'Sequence', decoders }
  const text = JSON.stringify({ ...json, added_tokens: [], post_processor: null, model, decoder })
  await t.rejects(loadTokenizer(t.testdir({ 'tokenizer.json': text })), {
    code: 'ERR_BAD_TOKENIZER',
    message: /model.vocab's id 1 is nothing, expected a piece$/,
  })
})
