/** Experts spread over ranks by their picks, and the command that does it. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parsePlacement } from '../../lib/program/placement.js'
import { placeExperts } from '../../lib/routing/placement.js'
import { runHere } from '../cli/run-here.js'
import { random } from '../support/random.js'

const layerOf = (picks: readonly number[], layer = 0) => ({
  layer,
  kinds: [...picks.map(() => 'ffn' as const), 'zero' as const],
  picks: [...picks, 1000],
})

t.test('by hand', async t => {
  t.same(placeExperts(layerOf([10, 1, 1, 9]), 2, 0), {
    layer: 0,
    experts: [[0], [1], [0], [1]],
    imbalance: { neighbours: 22 / 21, placed: 22 / 21 },
  })
  t.same(placeExperts(layerOf([5, 5, 1, 1]), 2, 0), {
    layer: 0,
    experts: [[0], [1], [0], [1]],
    imbalance: { neighbours: 20 / 12, placed: 1 },
  })
  // A copy takes half of the picks.
  t.same(placeExperts(layerOf([12, 2, 2]), 2, 1), {
    layer: 0,
    experts: [[0, 1], [0], [1]],
    imbalance: { neighbours: 28 / 16, placed: 1 },
  })
  t.same(placeExperts(layerOf([0, 0, 0]), 3, 5).experts, [[0], [1], [2]])
  t.throws(() => placeExperts(layerOf([1, 2]), 3, 0), {
    code: 'ERR_UNSUPPORTED',
    message: 'layer 0 has 2 FFN experts, expected at least 3, as many as ranks',
  })
})

t.test('each placement is one that a group takes', async t => {
  const next = random(7)
  for (let i = 0; i < 200; i++) {
    const experts = 1 + Math.floor(12 * next())
    const size = 1 + Math.floor(experts * next())
    const copies = Math.floor(3 * next())
    const picks = Array.from({ length: experts }, () => Math.floor(100 * next() ** 3))
    const placed = placeExperts(layerOf(picks), size, copies)
    const file = { ranks: size, layers: [{ layer: 0, experts: placed.experts }] }
    t.same(parsePlacement(file, 'f', size).get(0), placed.experts)
    const held = Array.from(
      { length: size },
      (_, rank) => placed.experts.filter(ranks => ranks.includes(rank)).length,
    )
    t.ok(Math.max(...held) <= Math.ceil(experts / size) + copies)
    const bare = placeExperts(layerOf(picks), size, 0)
    t.ok(placed.imbalance.placed <= bare.imbalance.placed)
  }
})

t.test('moepp placement', async t => {
  const folder = t.testdir()
  const report = join(folder, 'report.json')
  const out = join(folder, 'placement.json')
  const write = (content: unknown) => writeFileSync(report, JSON.stringify(content))
  const layers = [layerOf([5, 5, 1, 1], 2), layerOf([1, 2, 3, 4], 3)]
  write({ subjects: [{ layers }, { layers }] })
  const { code, stdout, stderr } = await runHere(['placement', report, '--ranks', '2', '-o', out])
  t.equal(code, 0, stderr)
  t.match(stdout, /^ +2 +1\.67 +1\.00$/m)
  t.same(JSON.parse(readFileSync(out, 'utf8')), {
    ranks: 2,
    layers: [
      { layer: 2, experts: [[0], [1], [0], [1]] },
      { layer: 3, experts: [[0], [1], [1], [0]] },
    ],
  })
  const refused = async (content: unknown, message: RegExp) => {
    write(content)
    const { code, stderr } = await runHere(['placement', report, '--ranks', '2', '-o', out])
    t.equal(code, 1)
    t.match(stderr, message)
  }
  await refused([], /expected a report of moepp routing, with subjects/)
  await refused({ subjects: [{ layers: [{ layer: 0 }] }] }, /subjects\[0\]\.layers: expected/)
  await refused({ subjects: [{ layers }, { layers: layers.slice(1) }] }, /expected one model/)
  const usage = await runHere(['placement', report, '--ranks', '0'])
  t.equal(usage.code, 2)
  t.match(usage.stderr, /--ranks: expected an integer from 1 to 4096, got 0/)
  t.equal((await runHere(['placement', report])).code, 2)
})
