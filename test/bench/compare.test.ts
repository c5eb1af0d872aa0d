/** The files that bench/compare writes for other programs, checked without them. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/golden.js'

// Plain JavaScript without types; a path that the compiler does not follow.
const load = (name: string) => import(join(root, 'bench', 'compare', name))
const { ENCODERS, fromF16, toF16 } = await load('ggml-types.mjs')
const { boolean, writeGguf, string, strings, u32 } = await load('gguf.mjs')
const { interleaveHalves, keyColumns, valueRows } = await load('gguf-tensors.mjs')

t.test('every f16 value is its own nearest', async t => {
  for (let bits = 0; bits < 0x10000; bits++) {
    if (((bits >>> 10) & 31) === 31) continue
    if (toF16(fromF16(bits)) !== bits) t.fail(`0x${bits.toString(16)}`)
  }
  // Halfway between two neighbours: the even one.
  for (let bits = 0; bits < 0x7bff; bits++) {
    const halfway = (fromF16(bits) + fromF16(bits + 1)) / 2
    if (toF16(halfway) !== bits + (bits % 2)) t.fail(`halfway after 0x${bits.toString(16)}`)
  }
})

/** 64 bf16 values from -1 to 1, and what they are. */
const VALUES = Float32Array.from({ length: 64 }, (_, i) => Math.fround(Math.sin(i * i)))
const BITS = Uint16Array.from(new Uint32Array(VALUES.buffer), bits => bits >>> 16)
const STORED = new Float32Array(Uint32Array.from(BITS, bits => bits << 16).buffer)

t.test('Q8_0 and Q4_0 blocks are within half a step', async t => {
  const q8: Buffer = ENCODERS.Q8_0(BITS)
  const q4: Buffer = ENCODERS.Q4_0(BITS)
  t.equal(q8.length, 2 * 34)
  t.equal(q4.length, 2 * 18)
  for (let i = 0; i < 64; i++) {
    const [block, at] = [i >> 5, i & 31]
    const step8 = fromF16(q8.readUInt16LE(block * 34))
    t.ok(
      Math.abs(q8.readInt8(block * 34 + 2 + at) * step8 - STORED[i]!) <= 0.51 * step8,
      `Q8_0 ${i}`,
    )
    const step4 = fromF16(q4.readUInt16LE(block * 18))
    const byte = q4[block * 18 + 2 + (at & 15)]!
    const value = ((at < 16 ? byte & 15 : byte >> 4) - 8) * step4
    // The value on the far side of the largest may lie a whole step beyond the range.
    t.ok(Math.abs(value - STORED[i]!) <= 1.01 * Math.abs(step4), `Q4_0 ${i}`)
  }
})

t.test('two sides that disagree in bf16 are not compared', async t => {
  const { countSame, requireAgreement } = await load('agreement.mjs')
  t.equal(countSame([1, 2, 3], [1, 4, 3]), 2)
  t.throws(() => countSame([1], []), /expected as many/)
  const bf16 = ['bfloat16', 'bfloat16']
  requireAgreement(90, 100, bf16)
  t.throws(() => requireAgreement(89, 100, bf16), /89 of 100 positions, expected 90 %/)
  requireAgreement(0, 100, ['bfloat16', 'int8'])
})

t.test('halves of a head become neighbours', async t => {
  const rows = Uint16Array.from([0, 1, 2, 3, 10, 11, 12, 13].flatMap(row => [row, row]))
  t.same(
    [...interleaveHalves(rows, 2, 4)],
    [0, 2, 1, 3, 10, 12, 11, 13].flatMap(row => [row, row]),
  )
})

t.test('the up-projection of latents is two tensors', async t => {
  // Two heads of two keys' rows and one value's, over three elements of a latent.
  const head = (first: number) => [0, 1, 2, 10, 11, 12, 20, 21, 22].map(value => first + value)
  const rows = Uint16Array.from([...head(0), ...head(100)])
  const keys = [0, 10, 1, 11, 2, 12]
  t.same([...keyColumns(rows, 3, 2, 1)], [...keys, ...keys.map(value => 100 + value)])
  t.same([...valueRows(rows, 3, 2, 1)], [20, 21, 22, 120, 121, 122])
})

t.test('the twin of latents as llama.cpp names it', async t => {
  const { vanillaGguf } = await load('vanilla-gguf.mjs')
  const options = { folder: t.testdir(), layers: 2 }
  const file = readFileSync(vanillaGguf('tiny-glm', options, 'Q8_0')).toString('latin1')
  for (const name of ['attn_k_b', 'attn_v_b', 'attn_kv_a_mqa', 'ffn_gate_shexp', 'ffn_gate_exps'])
    t.ok(file.includes(`blk.1.${name}.weight`), name)
  t.ok(file.includes('blk.0.ffn_gate.weight'))
  t.notOk(file.includes('blk.0.ffn_gate_exps.weight'))
  t.ok(file.includes('deepseek2.attention.key_length_mla'))
  t.throws(() => vanillaGguf('tiny-longcat', options, 'Q8_0'), /llama.cpp runs, got tiny-longcat/)
})

t.test('a GGUF file', async t => {
  const path = join(t.testdir(), 'a.gguf')
  const content = () => [Buffer.from([1, 2, 3, 4]), Buffer.from([5, 6, 7, 8])]
  writeGguf(
    path,
    {
      'general.architecture': string('x'),
      list: strings(['ab', '']),
      n: u32(7),
      yes: boolean(true),
    },
    [
      { name: 'a', type: 'BF16', shape: [2, 2], content },
      { name: 'b', type: 'F32', shape: [2], content },
    ],
  )
  const file = readFileSync(path)
  let at = 0
  const skip = (bytes: number) => {
    at += bytes
    return at - bytes
  }
  const u32At = () => file.readUInt32LE(skip(4))
  const u64At = () => Number(file.readBigUInt64LE(skip(8)))
  const text = () => {
    const from = skip(u64At())
    return file.toString('utf8', from, at)
  }
  t.equal(file.toString('latin1', 0, 4), 'GGUF')
  at = 4
  t.same([u32At(), u64At(), u64At()], [3, 2, 4])
  t.same([text(), u32At(), text()], ['general.architecture', 8, 'x'])
  t.same([text(), u32At(), u32At(), u64At(), text(), text()], ['list', 9, 8, 2, 'ab', ''])
  t.same([text(), u32At(), u32At()], ['n', 4, 7])
  t.same([text(), u32At(), file[skip(1)]], ['yes', 7, 1])
  t.same([text(), u32At(), u64At(), u64At(), u32At(), u64At()], ['a', 2, 2, 2, 30, 0])
  t.same([text(), u32At(), u64At(), u32At(), u64At()], ['b', 1, 2, 0, 32])
  const data = Math.ceil(at / 32) * 32
  t.same([...file.subarray(data, data + 8)], [1, 2, 3, 4, 5, 6, 7, 8])
  t.same([...file.subarray(data + 32, data + 40)], [1, 2, 3, 4, 5, 6, 7, 8])
  t.equal(file.length, data + 64)
  const short = { name: 'c', type: 'F32', shape: [3], content }
  t.throws(() => writeGguf(path, {}, [short]), /c: 8 bytes, expected 12/)
})

t.test('a package that is not installed is one line with the command that does it', async t => {
  const { status, stderr } = spawnSync(
    process.execPath,
    [
      ...['--input-type=module', '--eval'],
      "import { load } from './bench/compare/packages.mjs'; await load('moepp-no-such-package')",
    ],
    { cwd: root, encoding: 'utf8', env: { ...process.env, NODE_OPTIONS: '' } },
  )
  t.equal(stderr, 'moepp-no-such-package is not installed: npm ci --prefix bench/compare\n')
  t.equal(status, 1)
  const { load: loadPackage } = await load('packages.mjs')
  t.ok((await loadPackage('pbf')).PbfWriter)
})
