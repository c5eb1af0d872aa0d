import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { MoeppError } from '../../lib/errors.js'
import { loadTokenizer, type Tokenizer } from '../../lib/tokenizer/tokenizer.js'
import { golden } from '../support/golden.js'

const root = join(golden, 'tokenizer')

interface Expected {
  policy: 'exact' | 'exact-or-clear-error'
  vocab_size: number
  special_ids: { unk: number; bos: number; eos: number; pad: number }
  cases: { text: string; ids: number[]; decoded: string }[]
  decode_cases: { ids: number[]; text: string }[]
}

type Tap = Pick<typeof t, 'strictSame' | 'ok'>

/** Kinds that are refused; all others have to be exact. */
const refused = new Map([
  ['bpe-charsmap', /precompiled_charsmap is \d+ bytes, expected none/],
  ['unigram', /model_type is unigram, expected bpe/],
])

/**
 * Texts hold line separators and NUL, which test output does not survive: only what is wrong is
 * listed.
 */
function checkCases(
  t: Tap,
  tokenizer: Tokenizer,
  { cases, decode_cases, special_ids: { bos } }: Expected,
) {
  const wrong: unknown[] = []
  const expect = (got: unknown, expected: unknown, input: unknown) => {
    if (JSON.stringify(got) !== JSON.stringify(expected)) wrong.push({ input, got, expected })
  }
  for (const { text, ids, decoded } of cases) {
    expect(tokenizer.encode(text, { addSpecialTokens: false }), ids, text)
    expect(tokenizer.encode(text), [bos, ...ids], text)
    expect(tokenizer.decode(ids), decoded, ids)
    expect(tokenizer.decode([bos, ...ids]), decoded, ids)
  }
  for (const { ids, text } of decode_cases) expect(tokenizer.decode(ids), text, ids)
  t.ok(cases.length > 200 && decode_cases.length > 30)
  t.strictSame(wrong, [])
}

for (const name of await readdir(root)) {
  const directory = join(root, name)
  const expected: Expected = JSON.parse(await readFile(join(directory, 'expected.json'), 'utf8'))
  const message = refused.get(name)
  if (message) {
    t.test(`${name} is refused`, async t => {
      t.equal(expected.policy, 'exact-or-clear-error')
      await t.rejects(loadTokenizer(directory), { code: 'ERR_BAD_TOKENIZER', message })
      await t.rejects(loadTokenizer(directory), MoeppError)
    })
    continue
  }
  t.test(`${name} is exact`, async t => {
    const tokenizer = await loadTokenizer(directory)
    checkCases(t, tokenizer, expected)
    const { unk, bos, eos, pad } = expected.special_ids
    t.equal(tokenizer.vocabSize, expected.vocab_size)
    t.equal(tokenizer.unkTokenId, unk)
    t.equal(tokenizer.bosTokenId, bos)
    t.equal(tokenizer.eosTokenId, eos)
    t.equal(tokenizer.padTokenId, pad === -1 ? undefined : pad)
    t.ok(tokenizer.isSpecial(bos))
    t.notOk(tokenizer.isSpecial(unk), 'the unknown piece stands for text')
    t.equal(tokenizer.decode([bos], { skipSpecialTokens: false }), '<s>')
  })
  t.test(`${name} is exact after a round trip over tokenizer.json`, async t => {
    const json = JSON.stringify(await loadTokenizer(directory))
    const copy = t.testdir({ 'tokenizer.json': json })
    const withoutConfig = await loadTokenizer(copy)
    checkCases(t, withoutConfig, expected)
    t.equal(JSON.stringify(withoutConfig), json)
    await mkdir(join(copy, 'configured'))
    for (const file of ['tokenizer_config.json', 'special_tokens_map.json']) {
      await writeFile(join(copy, 'configured', file), await readFile(join(directory, file)))
    }
    await writeFile(join(copy, 'configured', 'tokenizer.json'), json)
    const configured = await loadTokenizer(join(copy, 'configured'))
    checkCases(t, configured, expected)
    t.equal(
      configured.padTokenId,
      expected.special_ids.pad === -1 ? undefined : expected.special_ids.pad,
    )
  })
}
