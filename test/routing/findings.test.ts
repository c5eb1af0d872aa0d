/** Findings, and how many tokens they take. */
import t from 'tap'
import { routing } from '../../lib/index.js'
import type { ExpertKind } from '../../lib/program/expert-kinds.js'
import type { LayerStatistics } from '../../lib/routing/types.js'

const KINDS: readonly ExpertKind[] = ['ffn', 'ffn', 'ffn', 'ffn', 'ffn', 'ffn', 'copy', 'zero']

function layerOf(parts: Partial<LayerStatistics>): LayerStatistics {
  const { tokens = 1000 } = parts
  return {
    layer: 7,
    tokens,
    topK: 2,
    kinds: KINDS,
    picks: KINDS.map(() => (2 * tokens) / KINDS.length),
    weights: KINDS.map(() => 0),
    ffnExperts: [100, 400, 500],
    ...parts,
  }
}

const found = (parts: Partial<LayerStatistics>) =>
  routing
    .findings([layerOf(parts)])
    .map(({ kind, expert }) => (expert === undefined ? kind : [kind, expert]))

t.test('an even layer has none', async t => {
  t.same(routing.findings([]), [])
  t.same(found({}), [])
})

t.test('a dead expert, once an even router would hardly leave it out', async t => {
  const picks = [300, 0, 300, 300, 300, 300, 0, 500]
  t.same(found({ picks }), [['dead-expert', 1]], 'only FFN experts')
  const [{ text } = { text: '' }] = routing.findings([layerOf({ picks })])
  t.match(text, /^Layer 7: no token of 1,000 picked the FFN expert 1\. .* of 1e-125 /)
  const few = [20, 0, 20, 20, 20, 20, 20, 20]
  // (6/8)^69 is above e^-20, (6/8)^70 below.
  t.same(found({ tokens: 69, picks: few, ffnExperts: [9, 30, 30] }), [])
  t.same(found({ tokens: 70, picks: few, ffnExperts: [9, 31, 30] }), [['dead-expert', 1]])
})

t.test('a layer where most tokens pick the same expert', async t => {
  const picks = [100, 150, 200, 150, 200, 150, 900, 150]
  t.same(found({ picks }), [['collapsed-layer', 6]])
  t.match(
    routing.findings([layerOf({ picks })])[0]!.text,
    /90 % of the tokens picked the copy expert 6/,
  )
  t.same(found({ picks: [100, 150, 200, 150, 200, 150, 899, 151] }), [])
  t.same(
    found({ tokens: 10, picks: [1, 1, 2, 1, 2, 1, 10, 2], ffnExperts: [2, 4, 4] }),
    [],
    'few tokens',
  )
  const two: readonly ExpertKind[] = ['ffn', 'ffn']
  t.same(found({ kinds: two, picks: [1000, 1000], ffnExperts: [0, 0, 1000] }), [], 'K of K experts')
})

t.test('no FFN expert, or nothing but them', async t => {
  const picks = [1, 1, 1, 1, 1, 1, 850, 850]
  t.same(found({ ffnExperts: [1000, 0, 0], picks }), ['no-ffn'])
  t.same(found({ ffnExperts: [0, 0, 1000] }), ['only-ffn'])
  t.same(found({ ffnExperts: [1, 0, 999] }), [])
  // An even router has (15 / 28)^T: two FFN experts of 6 among 2 of 8.
  t.same(found({ tokens: 32, ffnExperts: [0, 0, 32] }), [])
  t.same(found({ tokens: 33, ffnExperts: [0, 0, 33] }), ['only-ffn'])
  const ffn: readonly ExpertKind[] = ['ffn', 'ffn', 'ffn', 'ffn']
  const all = { kinds: ffn, picks: [500, 500, 500, 500], ffnExperts: [0, 0, 1000] }
  t.same(found(all), [], 'a model without zero-computation experts')
})

t.test('no token has no finding', async t => {
  t.same(found({ tokens: 0, picks: KINDS.map(() => 0), ffnExperts: [0, 0, 0] }), [])
})

t.test('chances of a thousand experts are numbers', async t => {
  const kinds: readonly ExpertKind[] = [
    ...new Array<ExpertKind>(512).fill('ffn'),
    ...new Array<ExpertKind>(512).fill('zero'),
  ]
  const ffnExperts = [1000, ...new Array<number>(16).fill(0)]
  const picks = kinds.map(kind => (kind === 'ffn' ? 0 : 31))
  const all = routing.findings([layerOf({ topK: 16, kinds, picks, ffnExperts })])
  t.same(
    all.map(({ kind }) => kind),
    ['no-ffn'],
    '(1 - 16 / 1024)^1000 is too likely for the dead',
  )
})
