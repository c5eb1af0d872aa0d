import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { loadTokenizer } from '../../lib/tokenizer/tokenizer.js'
import { root } from '../support/golden.js'
import { checkpoint, type Files } from './small-checkpoint.js'

const bundled = join(root, 'models/books-7m')
const [mark, a, b, markA, ab, user] = [259, 260, 261, 262, 263, 264]

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
  const others = { chat_template: list.slice(0, 1) }
  t.equal(await load({ 'tokenizer_config.json': others }), undefined)
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
    message: /not valid JSON/,
  })
  await t.rejects(loadTokenizer(checkpoint(t, { 'tokenizer_config.json': [] })), {
    code: 'ERR_BAD_TOKENIZER',
  })
})

t.test("another library's tokenizer.json", async t => {
  const golden = join(root, 'test/golden/tokenizer/bpe')
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

t.test('a text in parts: tokens, and texts in which special tokens are words', async t => {
  const tokenizer = await loadTokenizer(join(root, 'models', 'books-7m'))
  const words = tokenizer.encode('The <s> man', { addSpecialTokens: false })
  t.same(await tokenizer.encodeParts([1, 'The <s> man', 2], {}), [1, ...words, 2])
  t.same(await tokenizer.encodeParts([], {}), [])
  t.equal((await tokenizer.encodeParts([1, 'The '.repeat(50)], { maxTokens: 7 })).length, 8)
  const signal = AbortSignal.abort()
  await t.rejects(tokenizer.encodeParts(['The'], { signal }), { code: 'ERR_ABORTED' })
})
