/** Pages of the KV cache, written and read from outside of a step. */
import t from 'tap'
import { loadBinding } from '../../lib/addon/binding.js'

const SIZES = { layers: 3, pages: 4, pageSize: 16, kvHeads: 2, keyDim: 6, valueDim: 10 }
const ELEMENTS = SIZES.pageSize * SIZES.kvHeads * (SIZES.keyDim + SIZES.valueDim)

/** Numbers that bf16 holds, all different. */
function numbers(seed: number): Float32Array {
  return Float32Array.from(
    { length: ELEMENTS },
    (_, i) => ((i % 256) - 128) * 2 ** ((i >> 8) - seed),
  )
}

for (const dtype of ['f32', 'bf16'] as const) {
  t.test(`${dtype}: a page is read as it was written, and no other changes`, async t => {
    const { Device } = loadBinding()
    const device = new Device('cpu', { threads: 1 })
    const cache = device.kvCache({ ...SIZES, dtype })
    const all = () =>
      Array.from({ length: SIZES.layers * SIZES.pages }, (_, i) =>
        cache.readPage(Math.floor(i / SIZES.pages), i % SIZES.pages),
      )
    const expected = all()
    for (const [seed, layer, page] of [
      [1, 0, 0],
      [2, 1, 2],
      [3, 2, 3],
      [4, 1, 2],
    ] as const) {
      cache.writePage(layer, page, numbers(seed))
      expected[layer * SIZES.pages + page] = numbers(seed)
      t.same(all(), expected)
    }
    const between = numbers(0).fill(1 + 2 ** -9)
    cache.writePage(0, 1, between)
    t.equal(cache.readPage(0, 1)[7], dtype === 'f32' ? between[7] : 1)

    t.throws(() => cache.writePage(3, 0, between), /writePage: there is no page 0 of layer 3/)
    t.throws(() => cache.writePage(0, 4, between), /no page 4/)
    t.throws(() => cache.writePage(0, -1, between), /no page -1/)
    t.throws(() => cache.writePage(0, 0, between.subarray(1)), TypeError)
    t.throws(() => cache.writePage(0, 0, new Int32Array(ELEMENTS) as never), TypeError)
    t.throws(() => cache.writePage(0, 0, undefined as never), TypeError)
    cache.close()
    t.throws(() => cache.writePage(0, 0, between), { code: 'ERR_CLOSED' })
    device.close()
  })
}
