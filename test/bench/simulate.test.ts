/**
 * bench/parallel: the simulator of many ranks. Its counts are those of ranks that run, and its
 * times those that were worked out by hand.
 */
import { join } from 'node:path'
import t from 'tap'
import { loadBinding, type NativeGroup } from '../../lib/addon/binding.js'
import { type Buffer, ProgramBuilder } from '../../lib/program/builder.js'
import { collectTokens, dispatchTokens, type Route } from '../../lib/program/moe-ops.js'
import { Placement } from '../../lib/program/placement.js'
import { root } from '../support/golden.js'

// Plain JavaScript without types; a path that the compiler does not follow.
const load = (name: string) => import(join(root, 'bench', 'parallel', name))
const { NONE, Picks, resample } = await load('picks.mjs')
const { collectBytes, countLayer, Curve, dispatchBytes, simulate, together } =
  await load('model.mjs')
const { differences, paysFrom, savings } = await load('report.mjs')
const { inTurns, quantile } = await load('timing.mjs')
const { decode, groupsOf, prefill, sequencesOf, spread } = await load('workload.mjs')

const HIDDEN = 5
const FFN = 7
const TOP_K = 3
/** A pick of it has no row. */
const ZERO = FFN

/** [token][k], different experts of a token. */
function someTokens(count: number, seed: number): number[][] {
  return Array.from({ length: count }, (_, token) => {
    const first = (token * 5 + seed) % (FFN + 1)
    return Array.from({ length: TOP_K }, (_, k) => (first + k * (1 + (token % 2))) % (FFN + 1))
  })
}

/** A layer of a rank whose picks and results come as inputs; what its group has counted then. */
async function runLayer(group: NativeGroup, on: Placement, tokens: number[][], all: number) {
  const p = new ProgramBuilder()
  const x = p.input('x', 'f32', ['T', HIDDEN])
  const expertOut = p.input('results', 'f32', ['P', TOP_K, HIDDEN])
  const route = {
    expertIndices: p.input('indices', 'i32', ['T', TOP_K]),
    expertRows: p.input('rows', 'i32', ['T', TOP_K]),
  } as Route & Record<'expertIndices' | 'expertRows', Buffer>
  const experts = [
    { kind: 'ffn', count: FFN },
    { kind: 'zero', count: 1 },
  ] as const
  const share = on.share(0, FFN)
  const dispatched = dispatchTokens(p, 'layer', { x, route, experts, on: share })
  const program = p.finish([collectTokens(p, 'layer', { expertOut, dispatched, route })])
  const device = new (loadBinding().Device)('cpu', { threads: 1 })
  const compiled = await device.compile(program, undefined, group)
  const T = tokens.length
  let row = 0
  await compiled.run({
    sizes: { T, R: 0, B: T > 0 ? 1 : 0, M: 0, P: all },
    inputs: {
      x: new Float32Array(T * HIDDEN),
      results: new Float32Array(all * TOP_K * HIDDEN),
      indices: Int32Array.from(tokens.flat()),
      rows: Int32Array.from(tokens.flat(), expert => (expert === ZERO ? -1 : row++)),
    },
  })
  const info = group.info()
  await compiled.close()
  device.close()
  return info
}

t.test('bytes, messages and local picks are those of ranks that run', async t => {
  const copies = [[0], [1], [2], [0, 1], [0], [1, 2], [2, 0]]
  for (const layers of [undefined, new Map([[0, copies]])]) {
    const ranks = [someTokens(6, 0), someTokens(0, 0), someTokens(11, 3)]
    const data = Uint16Array.from(ranks.flat(2), expert => (expert === ZERO ? NONE : expert))
    const length = data.length / TOP_K
    const picks = new Picks({ windows: 1, length, layers: 1, topK: TOP_K, experts: FFN, data })
    let next = 0
    const tokens = ranks.map(own => own.map(() => [0, next++]))
    const placements = ranks.map((_, rank) => new Placement(rank, ranks.length, layers))
    const to = placements.map(each => each.share(0, FFN).destinations)

    const groups = loadBinding().localGroups(ranks.length, 10_000)
    const infos = await Promise.all(
      groups.map((group, rank) => runLayer(group, placements[rank]!, ranks[rank]!, length)),
    )
    await Promise.all(groups.map(group => group.close()))

    const counted = countLayer(picks, 0, tokens, to)
    const at = (list: Uint32Array, from: number, other: number) => list[from * 3 + other]!
    for (const [rank, info] of infos.entries()) {
      let bytes = 0
      let sum = 0
      for (const other of [0, 1, 2]) {
        sum += at(counted.picks, rank, other)
        if (other === rank) continue
        const [rows, sent] = [at(counted.rows, rank, other), at(counted.picks, rank, other)]
        // No product reads the rows, which lets them travel as bf16.
        bytes += dispatchBytes(rows, sent, 2 * HIDDEN)
        bytes += collectBytes(at(counted.picks, other, rank), HIDDEN)
      }
      t.equal(info.bytesSent, bytes, `bytes of rank ${rank}`)
      t.equal(info.messagesSent, 4)
      t.equal(info.picks, sum, `picks of rank ${rank}`)
      t.equal(info.localPicks, at(counted.picks, rank, rank), `local picks of rank ${rank}`)
    }
  }
})

t.test('the time of a step by hand', async t => {
  // One layer, two ranks with expert 0 and 1. Rank 0 has three tokens, rank 1 one.
  const data = Uint16Array.from([0, 1, 1, NONE, 0, NONE, 1, NONE])
  const picks = new Picks({ windows: 1, length: 4, layers: 1, topK: 2, experts: 2, data })
  const linear = (factor: number) =>
    new Curve([
      [0, 0],
      [1, factor],
    ])
  const costs = {
    ...{ dense: linear(1), head: linear(10), expert: linear(100), message: linear(1e4) },
    ...{ localPick: 1e3, hidden: 2, rowBytes: 8, slots: 2 },
  }
  const tokensOf = () => [[0, 1, 2].map(position => [0, position]), [[0, 3]]]
  const to = [
    [
      [0, 1],
      [0, 1],
    ],
  ]
  const step = simulate({ picks, to, steps: 1, tokensOf, costs })
  // Rank 0 sends rows of two tokens, and has two picks of its own; two rows come back.
  const there = (32 + 32 + 2 * 8 + (32 + 16)) / 2
  const back = (32 + 32 + 2 * 8) / 2
  t.same(step.parts, {
    ...{ dense: 3, experts: 300, head: 30, mail: 36e4 },
    exchange: 1e4 * (there + back) + 2 * 1e3,
  })
  t.equal(step.imbalance, 3 / 2.5)
  t.equal(step.localShare, 3 / 5)
  t.equal(step.total.bytes, 80 + 48 + 32 + 48 + 2 * 36)
  t.equal(step.total.messages, 6)

  const shared = simulate({ picks, to, steps: 1, tokensOf, costs: { ...costs, slots: 1 } })
  t.same([shared.parts.dense, shared.parts.experts, shared.parts.head], [4, 500, 40])

  const network = { latency: 1e7, perByte: 1e6 }
  const wired = simulate({ picks, to, steps: 1, tokensOf, costs: { ...costs, network } })
  t.equal(wired.parts.mail, 36e4 + 1e7)
  t.equal(wired.parts.exchange, step.parts.exchange + 2e7 + 1e6 * (80 + 48))

  const alone = simulate({ picks, to: [[[0, 0]]], steps: 1, tokensOf: () => [[[0, 0]]], costs })
  t.same([alone.parts.exchange, alone.parts.mail, alone.total.bytes], [0, 0, 0])
})

t.test('works that share cores', async t => {
  t.equal(together([3, 1, 1], Number.POSITIVE_INFINITY), 3)
  t.equal(together([3, 1, 1], 2), 4, 'the first and the third share a core')
  t.equal(together([3, 5, 4], 2), 7)
  t.equal(together([3, 5, 4], 3), 5)
  const curve = new Curve([
    [1, 10],
    [3, 20],
    [5, 60],
  ])
  t.same(
    [0, 2, 4, 6].map(x => curve.at(x)),
    [5, 15, 40, 80],
  )
})

t.test('sequences of ranks', async t => {
  t.same(spread(7, 3), [3, 2, 2])
  t.same(groupsOf(8, 16), { groups: 1, size: 8 })
  t.same(groupsOf(64, 16), { groups: 4, size: 16 })
  t.same(groupsOf(20, 16), { groups: 2, size: 10 })
  t.equal(groupsOf(17, 16), undefined)
  const sequences = sequencesOf([2, 1, 2], 3, 4, 1)
  t.same(
    sequences.map((own: { window: number }[]) => own.map(({ window }) => window)),
    [[0, 1], [2], [0, 1]],
  )
  t.ok(sequences.flat().every(({ shift }: { shift: number }, i: number) => i > 2 || shift === 0))
  t.same(sequencesOf([2, 1, 2], 3, 4, 1), sequences, 'the same each time')
  const at = [
    [
      { window: 5, shift: 0 },
      { window: 6, shift: 3 },
    ],
    [],
  ]
  t.same(decode(at, 10, 4)(2), [
    [
      [5, 12],
      [6, 11],
    ],
    [],
  ])
  t.same(prefill([[{ window: 5 }, { window: 6 }]], 2)(3), [
    [
      [6, 0],
      [6, 1],
    ],
  ])
})

t.test('resampled picks keep the share of FFN picks and the curve of loads', async t => {
  const [windows, length] = [40, 64]
  const data = new Uint16Array(windows * length * 2)
  // Expert 0 has a half of the FFN picks, 1 a third, 2 a sixth, 3 none; a token has one or none.
  for (let i = 0; i < data.length; i += 2)
    data.set([i % 4 === 0 ? NONE : [0, 0, 0, 1, 1, 2][Math.floor(i / 4) % 6]!, NONE], i)
  const recorded = new Picks({ windows, length, layers: 1, topK: 2, experts: 4, data })
  const made = resample(recorded, { layers: 3, topK: 8, experts: 32 }, 1)
  t.equal(made.ffnShare, recorded.ffnShare)
  t.same(resample(recorded, { layers: 3, topK: 8, experts: 32 }, 1).data, made.data)
  for (let layer = 0; layer < 3; layer++) {
    const loads: number[] = made.loads(layer).sort((a: number, b: number) => b - a)
    const all = loads.reduce((a, b) => a + b, 0)
    // Loads of 32 on the line through 3, 2, 1 and 0: the hottest eight have 0.479 of the picks, and
    // 0.25 if all were even. Draws for the same recorded pick count once; five standard deviations.
    const first = loads.slice(0, 8).reduce((a, b) => a + b, 0) / all
    const bound = 5 * Math.sqrt((0.479 * 0.521) / ((windows * length) / 2))
    t.ok(Math.abs(first - 0.479) < bound, `${first} of the picks, 0.479 ± ${bound}`)
    for (let token = 0; token < windows * length; token++) {
      const own = made.data.subarray((token * 3 + layer) * 8, (token * 3 + layer + 1) * 8)
      const ffn = [...own].filter(expert => expert !== NONE)
      if (new Set(ffn).size !== ffn.length) t.fail(`token ${token} picks an expert twice`)
    }
  }
  t.throws(() => new Picks({ windows: 1, length: 1, layers: 1, topK: 2, experts: 4, data }), {
    name: 'RangeError',
    message: /^data: expected 2 picks, got/,
  })
})

t.test('the report', async t => {
  const times = (...gains: number[]) =>
    gains.map((gain, i) => ({ sequences: 2 ** i, one: gain, two: 1 }))
  t.equal(paysFrom(times(0.5, 2, 1, 1.5, 3)), 8, 'from the last loss on')
  t.equal(paysFrom(times(2, 3)), 1)
  t.equal(paysFrom(times(2, 1)), undefined)

  const row = { phase: 'decode', ranks: 2, placement: 'contiguous' }
  const rows = [
    { ...row, model: 'model', bytesOfRank: 60 },
    { ...row, model: 'twin', bytesOfRank: 100 },
    { ...row, model: 'model', placement: 'greedy', bytesOfRank: 1 },
  ]
  t.same(savings(rows, { recorded: 0.5 }), [
    { phase: 'decode', ranks: 2, saved: 0.4, ofIdeal: 0.8 },
  ])

  const total = { bytes: 9, messages: 2, picks: 7, localPicks: 3, tokens: 1 }
  const counts = { bytesSent: 9, messagesSent: 2, picks: 7, localPicks: 3 }
  t.same(differences({ counts, predicted: { total } }), [])
  t.same(differences({ counts: { ...counts, picks: 8 }, predicted: { total } }), ['picks'])
  t.same(differences({ counts: null, predicted: { total } }), [])
})

t.test('turns of works', async t => {
  t.same(
    [0, 0.5, 1].map(q => quantile([3, 1, 2], q)),
    [1, 2, 3],
  )
  t.equal(quantile([4, 1, 2, 3], 0.5), 2.5)
  const calls: string[] = []
  const work = (name: string) => async () => void calls.push(name)
  const found = await inTurns([work('a'), work('b')], 2, work('|'), 2)
  t.equal(calls.join(''), 'ab|aa|bb|aa|bb')
  t.same(
    found.map((times: number[]) => times.length),
    [2, 2],
  )
})
