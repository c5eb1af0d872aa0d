import t from 'tap'
import { philox, randomSeed, uniform } from '../../lib/sampling/rng.js'

t.test('philox4x32-10 gives the known answers of the Random123 distribution', async t => {
  const f = 0xffffffff
  t.same(philox([0, 0, 0, 0], [0, 0]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8])
  t.same(philox([f, f, f, f], [f, f]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd])
  const pi = philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])
  t.same(pi, [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1])
})

t.test('every part of seed, stream and step gives other numbers', async t => {
  const keys = [
    [0, 0, 0],
    [0, 0, 1],
    [0, 1, 0],
    [1, 0, 0],
    [-1, 0, 0],
    [2 ** 32, 0, 0],
    [2 ** 52, 0, 0],
    [Number.MAX_SAFE_INTEGER, 0, 0],
    [Number.MIN_SAFE_INTEGER, 0, 0],
  ] as const
  t.equal(
    new Set(keys.map(([seed, stream, step]) => uniform(seed, stream, step))).size,
    keys.length,
  )
  t.equal(uniform(7, 2, 9), uniform(7, 2, 9))
})

t.test('uniform numbers are uniform: mean, and a chi-square over 16 bins', async t => {
  const n = 16_000
  const bins = new Array<number>(16).fill(0)
  let sum = 0
  for (let step = 0; step < n; step++) {
    const u = uniform(42, 0, step)
    if (!(u >= 0 && u < 1)) t.fail(`step ${step}: ${u} is outside [0, 1)`)
    sum += u
    bins[Math.floor(u * 16)]!++
  }
  // Standard deviation of the mean: 1 / sqrt(12 n).
  t.ok(Math.abs(sum / n - 0.5) < 4 / Math.sqrt(12 * n))
  const chiSquare = bins.reduce((x, count) => x + (count - n / 16) ** 2 / (n / 16), 0)
  // 99.9th percentile for 15 degrees of freedom.
  t.ok(chiSquare < 37.7, `chi-square is ${chiSquare}`)
})

t.test('random seeds are safe integers and differ', async t => {
  const seeds = Array.from({ length: 50 }, randomSeed)
  t.ok(seeds.every(seed => Number.isSafeInteger(seed) && seed >= 0))
  t.equal(new Set(seeds).size, 50)
})
