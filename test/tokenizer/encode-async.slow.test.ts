/** Encoding lets other events run, at places that do not depend on the machine. */
import { join } from 'node:path'
import t from 'tap'
import { loadTokenizer } from '../../lib/tokenizer/tokenizer.js'
import { golden, root } from '../support/golden.js'
import { basePieces, normal, writeModel } from './model-proto.js'
import { countTurns } from './slow-clock.js'

const bundled = await loadTokenizer(join(root, 'models/books-7m'))

/** One that merges any number of 'a' and 'b' as one part, which nothing cuts. */
async function uncut(t: { testdir(files: Record<string, Buffer>): string }) {
  const texts = ['a', 'b', 'aa', 'ab', 'ba', 'bb', 'aaaa', 'abab', 'aaaaaaaa', '\u2581']
  const pieces = [...basePieces, ...texts.map((text, i) => normal(text, -i))]
  const model = Buffer.from(writeModel({ pieces }))
  return loadTokenizer(t.testdir({ 'tokenizer.model': model }))
}

const byteLevel = await loadTokenizer(join(golden, 'tokenizer-byte-level/qwen-bpe'))

const LENGTH = 200_000
const texts = {
  a: 'a'.repeat(LENGTH),
  NUL: '\0'.repeat(LENGTH),
  'lone surrogates': '\ud800'.repeat(LENGTH),
  emoji: '😀'.repeat(LENGTH / 2),
  words: 'The old man said. '.repeat(LENGTH / 18),
  'one word': 'theoldmansaid'.repeat(LENGTH / 13),
  ab: 'ab'.repeat(LENGTH / 2),
  digits: '1'.repeat(LENGTH),
  space: ' '.repeat(LENGTH),
  marks: '\u0301\u0323'.repeat(LENGTH / 2),
}

t.test('a long text lets other events run, often', async t => {
  for (const [kind, tokenizer] of Object.entries({ bundled, byteLevel, uncut: await uncut(t) })) {
    for (const [name, text] of Object.entries(texts)) {
      const { result, turns } = await countTurns(() => tokenizer.encodeAsync(text))
      t.ok(turns >= text.length / 4096, `${kind}, ${name}: ${turns} turns`)
      const expected = tokenizer.encode(text)
      t.ok(
        result.length === expected.length && result.every((id, i) => id === expected[i]),
        `${kind}, ${name}: the same ids`,
      )
    }
  }
})

t.test('so does each form of a tokenizer.json', async t => {
  const json = JSON.parse(JSON.stringify(bundled))
  json.model.sentencepiece = undefined
  const mark = { type: 'Metaspace', replacement: '\u2581', prepend_scheme: 'first', split: false }
  const forms = {
    plain: {},
    ignore_merges: { model: { ...json.model, ignore_merges: true } },
    Metaspace: { normalizer: null, pre_tokenizer: mark },
    'added tokens': {
      added_tokens: [
        { id: 9000, content: '<|u|>', normalized: false },
        { id: 9001, content: '<|v|>', normalized: true },
      ],
    },
  }
  for (const [name, form] of Object.entries(forms)) {
    const directory = t.testdir({ 'tokenizer.json': JSON.stringify({ ...json, ...form }) })
    const tokenizer = await loadTokenizer(directory)
    for (const text of [texts.words, '<|u|>x<|v|>'.repeat(20_000)]) {
      const { turns } = await countTurns(() => tokenizer.encodeAsync(text))
      t.ok(turns >= text.length / 4096, `${name}: ${turns} turns`)
    }
  }
})

t.test('the work grows with the length, and not with use', async t => {
  for (const tokenizer of [bundled, byteLevel, await uncut(t)]) {
    for (const text of Object.values(texts)) {
      const work = async (part: string) =>
        (await countTurns(() => tokenizer.encodeAsync(part))).turns
      const half = await work(text.slice(0, text.length / 2))
      const whole = await work(text)
      t.ok(whole <= 2.1 * half, `${half} and ${whole} turns`)
      t.equal(await work(text), whole)
    }
  }
})

t.test('the signal ends it', async t => {
  for (const [name, text] of Object.entries(texts)) {
    for (const tokenizer of [bundled, await uncut(t)]) {
      const controller = new AbortController()
      const reason = new Error('enough')
      const { result, turns } = await countTurns(
        () => tokenizer.encodeAsync(text, { signal: controller.signal }).catch(error => error),
        turn => {
          if (turn === 3) controller.abort(reason)
        },
      )
      t.match(result, { code: 'ERR_ABORTED', cause: reason }, name)
      t.ok(turns < 8, `${turns} turns`)
    }
  }
  await t.rejects(bundled.encodeAsync('a', { signal: AbortSignal.abort() }), {
    code: 'ERR_ABORTED',
  })
})

t.test('maxTokens ends it, with one id more', async t => {
  const ids = bundled.encode(texts.words)
  const { result, turns } = await countTurns(() =>
    bundled.encodeAsync(texts.words, { maxTokens: 100 }),
  )
  t.strictSame(result, ids.slice(0, 101))
  t.ok(turns < 8)
  const few = bundled.encode('The old man')
  t.strictSame(await bundled.encodeAsync('The old man', { maxTokens: few.length }), few)
  t.strictSame(await bundled.encodeAsync('The old man', { maxTokens: 1 }), few.slice(0, 2))
})

t.test('arguments', async t => {
  const wrong = (text: unknown, options?: object) => bundled.encodeAsync(text as string, options)
  await t.rejects(wrong(5), { name: 'TypeError', message: /^text: / })
  await t.rejects(wrong('a', { signal: 5 }), { name: 'TypeError', message: /^signal: / })
  await t.rejects(wrong('a', { maxTokens: -1 }), { name: 'RangeError', message: /^maxTokens: / })
  await t.rejects(wrong('a', { max: 1 }), { name: 'TypeError', message: /"max"/ })
  t.strictSame(await bundled.encodeAsync('', { addSpecialTokens: false }), [])
})
