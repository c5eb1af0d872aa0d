/**
 * Differences between systems' files: long paths, files in use, ends of lines, cases of letters,
 * names that are devices.
 */
import { cpSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { isPlainFileName } from '../../lib/checkpoint/checkpoint.js'
import { convertCheckpoint } from '../../lib/convert/convert.js'
import { loadModel } from '../../lib/load/load.js'
import { root } from '../support/golden.js'

const books = join(root, 'models', 'books-7m')
/** More than 260 characters. */
const FOLDERS = Array.from({ length: 8 }, () => 'a folder of the user'.repeat(2))
const OPTIONS = { maxNewTokens: 8, ignoreEos: true }

async function textOf(directory: string): Promise<string> {
  await using model = await loadModel(directory, { threads: 1, isa: 'scalar' })
  return (await model.generate('The old man', OPTIONS)).text
}

const bytesOf = (folder: string) =>
  readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0)

t.test('a model at the end of a path of more than 260 characters', async t => {
  const far = join(t.testdir(), ...FOLDERS)
  t.ok(far.length > 300)
  cpSync(books, join(far, 'model'), { recursive: true })
  t.equal(await textOf(join(far, 'model')), await textOf(books))
})

t.test(
  'one is written there',
  { skip: process.platform === 'win32' && 'Wine has no real path of such a length' },
  async t => {
    const packed = join(t.testdir(), ...FOLDERS, 'packed')
    await convertCheckpoint(books, packed, { dtype: 'int8' })
    t.match(await textOf(packed), /\S/)
  },
)

/** Windows refuses to replace a file that is mapped. */
t.test('a checkpoint in use is replaced whole, or stays', async t => {
  const folder = join(t.testdir(), 'packed')
  await convertCheckpoint(books, folder, { dtype: 'int8' })
  const before = await textOf(folder)
  const bytes = bytesOf(folder)
  await using model = await loadModel(folder, { threads: 1, isa: 'scalar' })
  const refusal = await convertCheckpoint(books, folder, { dtype: 'int4', force: true }).then(
    () => undefined,
    error => error,
  )
  if (refusal !== undefined) {
    t.equal(process.platform, 'win32', `${refusal}`)
    t.equal(refusal.code, 'ERR_CANNOT_WRITE')
    t.equal(await textOf(folder), before)
  }
  t.equal((await model.generate('The old man', OPTIONS)).text, before)
  await model.close()
  await convertCheckpoint(books, folder, { dtype: 'int4', force: true })
  t.match(await textOf(folder), /\S/)
  t.ok(bytesOf(folder) < bytes, 'int4')
})

t.test('a path in other letters, where the system takes it', async t => {
  const folder = join(t.testdir(), 'Model')
  cpSync(books, folder, { recursive: true })
  const other = join(folder, '..', 'MODEL')
  if (existsSync(other)) t.equal(await textOf(other), await textOf(books))
  else await t.rejects(textOf(other), { code: 'ERR_NOT_FOUND' })
})

t.test('lines that end as on Windows', async t => {
  const folder = t.testdir()
  cpSync(books, folder, { recursive: true })
  for (const name of ['config.json', 'generation_config.json', 'tokenizer_config.json']) {
    const text = readFileSync(join(folder, name), 'utf8')
    writeFileSync(join(folder, name), text.replaceAll('\n', '\r\n'))
  }
  t.equal(await textOf(folder), await textOf(books))
})

t.test('names of files that mean something else on Windows', async t => {
  for (const name of ['con', 'NUL', 'aux.json', 'Com1.safetensors', 'lpt9', 'model.', 'model '])
    t.notOk(isPlainFileName(name), name)
  for (const name of ['a:b', 'c:x', '..', '.', 'a\\b', 'a/b', '', 'a\tb'])
    t.notOk(isPlainFileName(name), name)
  for (const name of [
    'config.json',
    'console.json',
    'com10.bin',
    'model-00001-of-00002.safetensors',
  ])
    t.ok(isPlainFileName(name), name)
})
