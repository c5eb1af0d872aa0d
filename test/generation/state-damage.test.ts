/** State files that are damaged, made up, or another model's are refused, and change nothing. */

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { MoeppError } from '../../lib/index.js'
import { type FakeModelOptions, fakeModel } from './fake-model.js'

const TOKENS = [100, 107, 114, 121, 128, 135]
const CHECKSUM = 32
const folder = t.testdir()
const path = join(folder, 'state.kv')

async function whole(options: FakeModelOptions = {}): Promise<Buffer> {
  const { model } = fakeModel(options)
  await model.saveState(path, TOKENS)
  await model.close()
  return readFileSync(path)
}

const good = await whole()
const headerEnd = 12 + good.readUInt32LE(8)
const header = JSON.parse(good.toString('utf8', 12, headerEnd)) as Record<string, unknown>

/** With a checksum that is right. */
function signed(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, createHash('sha256').update(bytes).digest()])
}

/** With another header, as text or as a change of it; the rest is as it was. */
function withHeader(
  change: string | Record<string, unknown>,
  rest = good.subarray(headerEnd, -CHECKSUM),
) {
  const text = typeof change === 'string' ? change : JSON.stringify({ ...header, ...change })
  const start = Buffer.from(good.subarray(0, 12))
  start.writeUInt32LE(Buffer.byteLength(text), 8)
  return signed(Buffer.concat([start, Buffer.from(text), rest]))
}

/** With other bytes somewhere. */
function patched(at: number, bytes: Buffer): Buffer {
  const copy = Buffer.from(good.subarray(0, -CHECKSUM))
  bytes.copy(copy, at)
  return signed(copy)
}

const { model, runner } = fakeModel()
t.teardown(() => model.close())

/** The message of the error that a file ends with. */
async function refusal(bytes: Buffer): Promise<string> {
  writeFileSync(path, bytes)
  try {
    await model.loadState(path)
    return 'loaded'
  } catch (error) {
    if (!(error instanceof MoeppError) || error.code !== 'ERR_BAD_STATE') return `${error}`
    const { kvPagesCached, kvPagesUsed } = model.stats()
    if (kvPagesCached + kvPagesUsed > 0) return 'a page is kept'
    return error.message.replace(`${path}: `, '')
  }
}

t.test('damage of every kind', async t => {
  t.same(signed(good.subarray(0, -CHECKSUM)), good, 'the checksum is of all before it')
  for (let size = 0; size < good.length; size += size < 64 ? 1 : 64)
    t.match(await refusal(good.subarray(0, size)), /bytes|JSON/, `the first ${size} bytes`)
  t.match(await refusal(good.subarray(0, -1)), /has \d+ bytes, expected/)
  t.match(await refusal(Buffer.concat([good, Buffer.of(0)])), /has \d+ bytes, expected/)
  const unrefused: string[] = []
  for (let at = 0; at < good.length; at++) {
    const bytes = Buffer.from(good)
    bytes[at]! ^= 1 << (at % 8)
    const message = await refusal(bytes)
    if (/^(loaded|a page|Error|TypeError|RangeError|MoeppError)/.test(message))
      unrefused.push(`byte ${at}: ${message}`)
  }
  t.same(unrefused, [])
  for (let seed = 0; seed < 20; seed++) {
    const random = createHash('sha512').update(String(seed)).digest()
    t.match(await refusal(random), /no state file/)
    const inside = Buffer.concat([good.subarray(0, 12), random, good.subarray(12 + random.length)])
    t.match(await refusal(inside), /JSON|UTF-8/)
  }
  t.match(await refusal(Buffer.from('version https://git-lfs.github.com/spec/v1\n')), /LFS/)
})

t.test('each field of the header', async t => {
  t.same(Object.keys(header), [
    'format',
    'tokens',
    'weights',
    'kvCacheDtype',
    'pageSize',
    'layers',
    'kvHeads',
    'keyDim',
    'valueDim',
    'vocabSize',
  ])
  for (const [name, value] of Object.entries(header)) {
    const others = [typeof value === 'string' ? `${value}x` : Number(value) + 1, String(value) + 1]
    for (const other of [...others, null, 0, -1, 1.5, 1e300, true, [], {}, [value]]) {
      const message = await refusal(withHeader({ [name]: other }))
      if (name === 'tokens' && (other === 7 || other === 1e300)) continue
      t.match(
        message,
        new RegExp(`^${name} is .*(this model's is|expected)`),
        JSON.stringify(other),
      )
    }
    const { [name]: _, ...without } = header
    t.match(await refusal(withHeader(JSON.stringify(without))), `${name} is nothing`)
    t.match(
      await refusal(withHeader(JSON.stringify(header).replace('{', `{"${name}":1,`))),
      /occurs twice/,
    )
  }
  t.match(await refusal(withHeader({ tokens: 7 })), /bytes, expected/)
  t.match(await refusal(withHeader({ tokens: 9 })), /bytes, expected/)
  t.match(await refusal(withHeader({ tokens: 1e300 })), /tokens is 1e\+300, expected an integer/)
  t.match(await refusal(withHeader({ tokens: 2 ** 40 })), /ERR_OUT_OF_MEMORY|holds 200/)
  t.match(await refusal(withHeader({ more: 1 })), /unknown field "more"/)
  t.match(await refusal(withHeader('{"__proto__":1}')), /format is nothing/)
  t.match(
    await refusal(withHeader(JSON.stringify(header).replace('{', '{"__proto__":{},'))),
    /unknown field "__proto__"/,
  )
  for (const text of [
    '',
    '[]',
    'null',
    '{',
    '"\u0007"',
    '['.repeat(60_000),
    `{"a":"${'b'.repeat(9)}`,
  ])
    t.match(await refusal(withHeader(text)), /JSON|nested/)
  t.match(await refusal(withHeader(' '.repeat(70_000))), /its header has 70000 bytes/)
  const endless = Buffer.from(good)
  endless.writeUInt32LE(0xffffffff, 8)
  t.match(await refusal(endless), /its header has 4294967295 bytes/)
})

t.test('contents that no model would have written, under a right checksum', async t => {
  for (const id of [-1, runner.vocabSize, -(2 ** 31), 2 ** 31 - 1]) {
    const bytes = Buffer.alloc(4)
    bytes.writeInt32LE(id)
    t.match(
      await refusal(patched(headerEnd + 8, bytes)),
      `token 2 is ${id}, expected an id from 0 to ${runner.vocabSize - 1}`,
    )
  }
  const pages = headerEnd + 4 * TOKENS.length
  const end = good.length - CHECKSUM - 4
  for (const value of [Number.NaN, Infinity, -Infinity]) {
    const bytes = Buffer.alloc(4)
    bytes.writeFloatLE(value)
    for (const at of [pages, pages + 64, end])
      t.match(await refusal(patched(at, bytes)), /not finite/)
  }
})

t.test("other models' files", async t => {
  for (const [options, message] of [
    [{ weights: 'finer' }, /^weights is "finer", this model's is "fake"/],
    [{ pageSize: 8 }, /^pageSize is 8, this model's is 4/],
  ] as const)
    t.match(await refusal(await whole(options)), message)
})

t.test('no file at all', async t => {
  mkdirSync(join(folder, 'directory'))
  for (const name of ['missing', 'directory', 'directory/missing', 'state.kv/missing', 'a\0b'])
    await t.rejects(model.loadState(join(folder, name)), { code: 'ERR_NOT_FOUND' }, name)
  if (process.platform !== 'win32') {
    const pipe = join(folder, 'pipe')
    execFileSync('mkfifo', [pipe])
    await t.rejects(model.loadState(pipe), { code: 'ERR_NOT_FOUND', message: /not a regular/ })
    await t.rejects(model.saveState(pipe, TOKENS), {
      code: 'ERR_CANNOT_WRITE',
      message: /not a regular file/,
    })
  }
})

t.test('the model goes on', async t => {
  writeFileSync(path, good)
  const { model: fresh } = fakeModel()
  const prompt = [...TOKENS, 5]
  const options = { maxNewTokens: 8, ignoreEos: true }
  const { usage, tokenIds } = await model.generate(prompt, options)
  t.equal(usage.cachedTokens, 0)
  t.same((await model.loadState(path)).tokenIds, TOKENS)
  await fresh.loadState(path)
  const again = await fresh.generate(prompt, options)
  t.same([again.usage.cachedTokens, again.tokenIds], [TOKENS.length, tokenIds])
  await fresh.close()
})
