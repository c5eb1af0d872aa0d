/** Steps of decoding have few sizes on a GPU. */
import t from 'tap'
import type { Step } from '../../lib/engine/runner.js'
import { padded } from '../../lib/model/padding.js'

/** B sequences of one token at position 70, M pages each, keys of variant 75. */
function decoding(B: number, M = 4): Step {
  return {
    tokens: Int32Array.from({ length: B }, (_, b) => 100 + b),
    positions: new Int32Array(B).fill(70),
    preceding: Int32Array.from({ length: 2 * B }, (_, i) => 200 + i),
    sequenceStarts: Int32Array.from({ length: B + 1 }, (_, b) => b),
    pageTable: Int32Array.from({ length: B * M }, (_, i) => i),
    keyVariants: new Int32Array(B).fill(75),
    copies: new Int32Array(),
    logitRows: Int32Array.from({ length: B }, (_, b) => b),
    wanted: { whole: false, top: true, logSumExp: false },
    capture: [],
  }
}

t.test('eleven tokens become sixteen', async t => {
  const step = decoding(11)
  const got = padded(step, 99)
  t.same([...got.tokens], [...step.tokens, 0, 0, 0, 0, 0])
  t.same([...got.positions], [...step.positions, 0, 1, 2, 3, 4], 'each has a place of its own')
  t.same([...got.preceding], [...step.preceding, ...Array(5 * 2).fill(0)])
  t.same([...got.sequenceStarts], [...step.sequenceStarts, 12, 13, 14, 15, 16])
  t.same([...got.pageTable], [...step.pageTable, ...Array(5 * 4).fill(99)])
  t.same([...got.keyVariants], [...step.keyVariants, 0, 0, 0, 0, 0])
  t.same([...got.logitRows], [...step.logitRows, 11, 12, 13, 14, 15])
  t.same(got.wanted, step.wanted)
})

t.test('few sizes', async t => {
  const sizes = Array.from({ length: 70 }, (_, i) => padded(decoding(i + 1), 99).tokens.length)
  t.same(
    [...new Set(sizes)],
    [1, 2, 3, 4, 5, 6, 7, 8, 16, 24, 32, 40, 48, 56, 64, 65, 66, 67, 68, 69, 70],
  )
})

t.test('what is left as it is', async t => {
  const step = decoding(11)
  const captures = { ...step, capture: ['final_hidden'] }
  const prompt = { ...decoding(1), tokens: new Int32Array(11), positions: new Int32Array(11) }
  for (const same of [captures, prompt]) t.equal(padded(same, 99), same)
  t.same(
    [...padded({ ...step, logitRows: new Int32Array(0) }, 99).logitRows],
    [],
    'no logits are wanted',
  )
})
