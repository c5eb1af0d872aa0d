/** The fingerprint of a model that is too large to be read as a whole. */
import { closeSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { fingerprintOf } from '../../lib/model/fingerprint.js'

const MB = 1 << 20
const path = join(t.testdir(), 'model.safetensors')
writeFileSync(path, '')
truncateSync(path, 257 * MB)

const part = (name: string, byteOffset: number, byteLength: number) => ({
  name,
  dtype: 'f32',
  shape: [byteLength / 4],
  file: path,
  byteOffset,
  byteLength,
})
const parts = [part('large', 1000, 200 * MB), part('middle', 210 * MB, 6 * MB)]
const small = Array.from({ length: 5 }, (_, i) => part(`small ${i}`, 230 * MB + 8192 * i, 2500 * i))

const weightsOf = (lists: readonly (typeof parts)[]) =>
  lists.map(list => ({ name: list[0]!.name, dtype: 'bf16', shape: [1], kind: 'head', parts: list }))

async function digest(lists = [parts, small]): Promise<string> {
  const model = { config: { family: 'test' } }
  const description = { name: 'cuda:3', model: 'none', isa: 'sm_90a' }
  const print = await fingerprintOf({
    model,
    spec: { weights: weightsOf(lists), lookups: [] },
    matrixType: 'bfloat16',
    activationDtype: 'auto',
    description,
  } as never)
  t.equal(print.arithmetic, 'cuda sm_90a')
  return print.weights!
}

/** Adds 1 to bytes, so that a second call does not undo the first. */
let written = 0
function write(at: number, length: number): void {
  const file = openSync(path, 'r+')
  writeSync(file, Buffer.alloc(length, ++written), 0, length, at)
  closeSync(file)
}

t.test('changes that are seen', async t => {
  let before = await digest()
  t.equal(await digest(), before)
  const sees = async (what: string) => {
    const now = await digest()
    t.not(now, before, what)
    before = now
  }
  for (const { name, byteOffset, byteLength } of [...parts, small[1]!]) {
    write(byteOffset, 1)
    await sees(`the first byte of ${name}`)
    write(byteOffset + byteLength - 1, 1)
    await sees(`the last byte of ${name}`)
  }
  write(100 * MB, 64 << 10)
  await sees('a row in the middle')
  write(212 * MB, 64 << 10)
  await sees('a row in the middle of a smaller one')
  write(500, 100)
  t.equal(await digest(), before, 'what belongs to no weight')

  const [first, second] = parts
  t.not(await digest([[first!], [second!], small]), before, 'weights of other parts')
  t.not(await digest([[{ ...first!, name: 'other' }, second!], small]), before)
  t.not(await digest([[{ ...first!, dtype: 'bf16' }, second!], small]), before)
  t.not(await digest([[{ ...first!, shape: [2, first!.shape[0]! / 2] }, second!], small]), before)
  t.not(await digest([small, parts]), before)
})

t.test('a file that is shorter than it was', async t => {
  truncateSync(path, 215 * MB)
  await t.rejects(digest(), { code: 'ERR_BAD_FILE' })
})
