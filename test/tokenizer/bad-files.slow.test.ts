/** Files that are no tokenizer, or not one that can be exact. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { MoeppError } from '../../lib/errors.js'
import { loadTokenizer } from '../../lib/tokenizer/tokenizer.js'
import { golden } from '../support/golden.js'
import { random } from '../support/random.js'
import { checkpoint } from './small-checkpoint.js'

const qwen = join(golden, 'tokenizer-byte-level/qwen-bpe/tokenizer.json')

function replaces(pattern: string, content: string, count = 1) {
  const step = { type: 'Replace', pattern: { String: pattern }, content }
  return { type: 'Sequence', normalizers: new Array(count).fill(step) }
}

t.test('control characters of a file are escaped in messages', async t => {
  const json = JSON.parse(JSON.stringify(await loadTokenizer(checkpoint(t))))
  const { sentencepiece } = json.model
  const scores = ['\x1b[2J', ...sentencepiece.scores.slice(1)]
  const types = ['\x1b[2J', ...sentencepiece.types.slice(1)]
  const withPieces = (change: object) =>
    JSON.stringify({
      ...json,
      model: { ...json.model, sentencepiece: { ...sentencepiece, ...change } },
    })
  const key = { added_tokens_decoder: { '\x1b[2J': {} } }
  const files: [Record<string, string>, RegExp][] = [
    [{ 'tokenizer.json': '\x1b[2J' }, /not valid JSON: .*\\u001b/],
    [{ 'tokenizer.json': withPieces({ scores }) }, /has score "\\u001b/],
    [{ 'tokenizer.json': withPieces({ types }) }, /has type "\\u001b/],
    [{ 'tokenizer_config.json': JSON.stringify(key) }, /added_tokens_decoder\["\\u001b/],
  ]
  for (const [content, message] of files) {
    const error = await loadTokenizer(t.testdir(content)).catch(error => error)
    t.match(error, { code: 'ERR_BAD_TOKENIZER', message })
    t.notMatch(error.message, /\p{Cc}/u)
  }
})

t.test('kinds of tokenizer.json that are refused', async t => {
  const json = JSON.parse(JSON.stringify(await loadTokenizer(checkpoint(t))))
  const cases: [object, RegExp][] = [
    [{ model: { ...json.model, type: 'Unigram' } }, /model.type is "Unigram", expected 'BPE'/],
    [{ model: { ...json.model, dropout: 0.1 } }, /model.dropout is 0.1, expected null/],
    [{ model: { ...json.model, unk_token: '' } }, /model.unk_token is "", expected a piece/],
    [{ model: { ...json.model, unk_token: 'no' } }, /model.unk_token is "no", expected a piece/],
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
    [{ normalizer: replaces('a'.repeat(513), 'a') }, /pattern is an object, expected { String: a /],
    [
      { normalizer: replaces('a', 'a'.repeat(513)) },
      /content is "a+\.\.\.", expected a text of up/,
    ],
    [
      { normalizer: { type: 'Prepend', prepend: 'a'.repeat(513) } },
      /prepend is "a+\.\.\.", expected/,
    ],
    [
      { normalizer: replaces('a', 'a'.repeat(9), 2) },
      /the growth of a normalized text is 81, expected <= 64 times/,
    ],
    [{ normalizer: replaces('a', 'b', 17) }, /the number of normalizers is 17, expected <= 16/],
    [
      { pre_tokenizer: { type: 'ByteLevel' } },
      /decoder is "Replace ByteFallback Fuse Strip", expected 'ByteLevel', as pre_tokenizer is/,
    ],
    [{ decoder: { type: 'ByteLevel' } }, /pre_tokenizer is "", expected 'ByteLevel', alone or/],
    [{ pre_tokenizer: { type: 'Digits' } }, /pre_tokenizer.type is "Digits"/],
    [
      { decoder: { type: 'BPEDecoder' } },
      /decoder is "BPEDecoder", expected a Sequence of Replace, ByteFallback/,
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

t.test('kinds of byte-level tokenizer.json that are refused', async t => {
  const json = JSON.parse(await readFile(qwen, 'utf8'))
  const [split, bytes] = json.pre_tokenizer.pretokenizers
  const steps = (...pretokenizers: object[]) => ({
    pre_tokenizer: { type: 'Sequence', pretokenizers },
  })
  const { '!': _, ...lacking } = json.model.vocab
  const added = (flags: object) => ({
    added_tokens: [{ id: 9000, content: '<x>', special: true, ...flags }],
  })
  const hostile = { Regex: '(a+)+$' }
  const cases: [object, RegExp][] = [
    [
      steps({ ...split, pattern: hostile }, bytes),
      /the Regex of Split is "\(a\+\)\+\$", expected one of 's\|'t/,
    ],
    [steps({ ...split, pattern: { String: ' ' } }, bytes), /the Regex of Split is an object/],
    [steps({ ...split, pattern: { Regex: ['a'] } }, bytes), /the Regex of Split is \["a"\]/],
    [
      steps({ ...split, behavior: 'Removed' }, bytes),
      /behavior and invert of Split is \["Removed", false\], expected \['Isolated', false\] or/,
    ],
    [steps({ ...split, invert: true }, bytes), /invert of Split is \["Isolated", true\]/],
    [steps(split, { ...bytes, use_regex: true }), /use_regex is true, expected false/],
    [steps(split, { type: 'ByteLevel' }), /use_regex is true, expected false/],
    [
      steps(split, { ...bytes, add_prefix_space: true }),
      /add_prefix_space is true, expected false/,
    ],
    [steps({ ...bytes, add_prefix_space: 1 }), /add_prefix_space is 1, expected a boolean/],
    [steps(split), /pre_tokenizer is "Split", expected 'ByteLevel', alone or behind one 'Split'/],
    [steps(split, split, bytes), /pre_tokenizer is "Split Split ByteLevel"/],
    [steps({ type: 'Digits' }, bytes), /pre_tokenizer is "Digits ByteLevel"/],
    [{ decoder: null }, /decoder is "", expected 'ByteLevel', as pre_tokenizer is/],
    [{ pre_tokenizer: null }, /pre_tokenizer is "", expected 'ByteLevel'/],
    [{ normalizer: { type: 'NFKC' } }, /normalizer 0.type is "NFKC", expected 'NFC', 'Prepend'/],
    [
      { model: { ...json.model, vocab: lacking, merges: [] } },
      /vocab\["!"\] is nothing, .* of the byte 33/,
    ],
    [added({ lstrip: 'x' }), /added_tokens\[0\].lstrip is "x", expected a boolean/],
    [added({ content: 'a'.repeat(513) }), /content is "a+\.\.\.", expected a text of up to 512/],
    [
      { added_tokens: [...json.added_tokens, { id: 9000, content: '<think>' }] },
      /added_tokens\[14\].id is 9000, expected the id of "<think>" alone/,
    ],
    [
      { post_processor: { type: 'Sequence', processors: [{ type: 'BertProcessing' }] } },
      /post_processor.type is "BertProcessing"/,
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
  const forms = [JSON.stringify(plain), json, await readFile(qwen, 'utf8')]
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
    const copy = JSON.parse(forms[round % 3]!)
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
