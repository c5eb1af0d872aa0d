/** Tokens as columns, and back in the page's code. */
import t, { type Test } from 'tap'
import { SampleKeeper } from '../../lib/routing/export/sample-keeper.js'
import { SampleText, unpacked } from '../../lib/routing/page/data.js'
import { TextIndex } from '../../lib/routing/page/search.js'
import { packedSample } from '../../lib/routing/page-columns.js'
import { reportPage } from '../../lib/routing/page-file.js'
import { PATH_BLOCK } from '../../lib/routing/page-format.js'
import type { Sample } from '../../lib/routing/types.js'
import { ffnExpertsOf, reportOf, type Shape, surveyed } from './fixture.js'

const SHAPE: Shape = { tokens: 700, layers: 3, topK: 2, experts: { ffn: 5, constant: 2, zero: 1 } }
/** The error of two decimals, and of a float. */
const HALF_STEP = 0.005 + 1e-6

async function roundTrip(sample: Sample, pathBytes = 1e9): Promise<SampleText> {
  return SampleText.of(JSON.parse(JSON.stringify(await packedSample(sample, pathBytes))))
}

/** Compares each token of a text with the rows that it was made of. */
async function compare(t: Test, { rows }: Sample, text: SampleText): Promise<void> {
  const wrong: string[] = []
  const expect = (isRight: boolean, ...where: unknown[]) => {
    if (!isRight) wrong.push(where.join(' '))
  }
  const isNear = (got: number, expected: number) =>
    Number.isFinite(expected) ? Math.abs(got - expected) <= HALF_STEP : Number.isNaN(got)
  let at = 0
  for (const { first, window, position, tokens, texts, layers } of rows) {
    for (let i = 0; i < tokens.length; i++, at++) {
      expect(at === first + i, 'first', at)
      expect(text.id(at) === tokens[i] && text.text(at) === texts[i], 'token', at)
      const place = text.place(at)
      expect(place.window === window && place.position === position + i, 'place', at)
      const path = at < text.pathTokens ? await text.path(at) : undefined
      layers.forEach((layer, l) => {
        expect(text.ffnExperts(at, l) === ffnExpertsOf(layer, i), 'FFN experts', at, l)
        path?.[l]?.forEach(({ expert, weight, logit, replaced }, k) => {
          const pick = i * layer.topK + k
          expect(expert === layer.experts[pick], 'expert', at, l, k)
          expect(isNear(weight, layer.weights[pick]!), 'weight', at, l, k, weight)
          expect(isNear(logit, layer.logits[pick]!), 'logit', at, l, k, logit)
          expect(isNear(replaced, layer.replaced[pick]!), 'replaced', at, l, k, replaced)
        })
        if (path) expect(path[l]!.length === layer.topK, 'picks', at, l)
      })
    }
  }
  t.equal(text.length, at)
  t.same(wrong.slice(0, 5), [])
}

t.test('columns come back', async t => {
  for (const [what, shape] of [
    ['some', SHAPE],
    ['one token, one layer', { ...SHAPE, tokens: 1, layers: 1 }],
    ['a block', { ...SHAPE, tokens: PATH_BLOCK, layers: 1 }],
    ['a block and a token', { ...SHAPE, tokens: PATH_BLOCK + 1, layers: 1, windowTokens: 100 }],
    ['a block ends within a window', { ...SHAPE, tokens: 5000, layers: 1, windowTokens: 4999 }],
    ['256 experts', { ...SHAPE, tokens: 90, topK: 8, experts: { ffn: 256 } }],
    ['512 experts', { ...SHAPE, tokens: 90, topK: 8, experts: { ffn: 500, copy: 12 } }],
  ] as const) {
    await t.test(what, async t => {
      const { sample } = surveyed(shape)
      const text = await roundTrip(sample)
      t.equal(text.pathTokens, shape.tokens)
      await compare(t, sample, text)
    })
  }
})

t.test('layers of different K, kinds and numbers that are not finite', async t => {
  const one = surveyed({ ...SHAPE, tokens: 50, layers: 1 }).sample.rows[0]!
  const other = surveyed({ ...SHAPE, tokens: 50, layers: 1, topK: 1, experts: { ffn: 3 } })
  const [layer] = other.sample.rows[0]!.layers
  layer!.logits.set([Number.NEGATIVE_INFINITY, Number.NaN, -1e30, 1e30], 3)
  layer!.weights.set([0, 2.5], 0)
  layer!.ffnExperts[0] = 0
  const rows = [{ ...one, layers: [...one.layers, { ...layer!, layer: 7 }] }]
  const text = await roundTrip({ rows })
  const path = async (i: number) => (await text.path(i))![1]![0]!
  t.ok(Number.isNaN((await path(3)).logit))
  t.ok(Number.isNaN((await path(4)).logit))
  t.match(String((await path(6)).logit), /^1\.0+1\d*e\+30$/, 'far numbers keep their size')
  t.equal((await path(0)).weight, 0)
  t.equal((await path(1)).weight, 2.5)
  t.equal(text.ffnExperts(0, 1), 0, 'a weight of 0 is no FFN expert')
  t.equal(text.ffnExperts(1, 1), 1)
  t.same(
    text.layers.map(({ layer, topK }) => [layer, topK]),
    [
      [1, 2],
      [7, 1],
    ],
  )
})

t.test('paths that would be large are those of the first tokens', async t => {
  const { sample } = surveyed({ ...SHAPE, tokens: 3 * PATH_BLOCK, layers: 1 })
  const whole = await packedSample(sample, 1e9)
  const sizes = whole!.paths.map(block =>
    Object.values(block).reduce((sum, { data }) => sum + data.length, 0),
  )
  const text = await roundTrip(sample, sizes[0]! + sizes[1]!)
  t.equal(text.pathTokens, 2 * PATH_BLOCK)
  t.equal(await text.path(2 * PATH_BLOCK), undefined)
  await compare(t, sample, text)
  t.equal((await roundTrip(sample, 10)).pathTokens, 0)
})

t.test('tokens whose picks were not kept have their FFN experts', async t => {
  const { sample } = surveyed({ ...SHAPE, tokens: 6000, windowTokens: 500 })
  const keeper = new SampleKeeper({ tokens: 5000, picks: 5 * 500 * 3 * 2 })
  for (const rows of sample.rows) keeper.add(rows)
  const text = await roundTrip(keeper.sample)
  t.equal(text.pathTokens, 2500, 'a block, and a part of one')
  await compare(t, { rows: sample.rows.slice(0, 10) }, text)
})

t.test('nothing at all', async t => {
  t.equal(await packedSample({ rows: [] }, 1e9), null)
  const { sample, subject } = surveyed({ ...SHAPE, tokens: 1 })
  const [rows] = sample.rows
  const layers = rows!.layers.map(layer => ({ ...layer, ffnExperts: new Uint8Array() }))
  const none = { ...rows!, tokens: new Int32Array(), texts: [], layers }
  t.equal((await roundTrip({ rows: [none] })).length, 0)
  const html = await reportPage(reportOf(subject, subject), [undefined])
  const { report, samples } = await unpacked(dataOf(html))
  t.same(report, reportOf(subject, subject))
  t.same(samples, [undefined, undefined])
})

const dataOf = (html: string) => /<script type="text\/plain" id="data">([^<]*)</.exec(html)![1]!

t.test('no text of a report is HTML', async t => {
  const evil = '</script><script>alert(1)</script><!--<script>\u202e\0\ud800$&'
  const { sample, subject } = surveyed({ ...SHAPE, tokens: 40, file: evil, texts: [evil] })
  const html = await reportPage(reportOf(subject), [sample])
  const plain = surveyed({ ...SHAPE, tokens: 40 })
  const other = await reportPage(reportOf(plain.subject), [plain.sample])
  const rest = (page: string) => page.replace(dataOf(page), '')
  t.equal(rest(html), rest(other), 'the page differs in its data alone')
  t.match(dataOf(html), /^[\w+/=:,.{}"[\]-]*$/)
  const { report, samples } = await unpacked(dataOf(html))
  t.equal(report.subjects[0]!.file, evil)
  t.equal(samples[0]!.text(3), evil)
  t.notMatch(
    rest(html).replace(/<!--.*?-->/s, ''),
    /https?:\/\/(?!www\.w3\.org)/,
    'no address but names of SVG',
  )
})

t.test('the search finds tokens', async t => {
  const index = (...texts: string[]) => new TextIndex(texts.length, i => texts[i]!)
  const found = (of: TextIndex, query: string) => of.find(query).map(({ from, to }) => [from, to])
  const text = index('The', ' light', 'house', '', ' keeper', ' the')
  t.same(found(text, 'the'), [
    [0, 1],
    [5, 6],
  ])
  t.same(found(text, 'lightHOUSE k'), [[1, 5]])
  t.same(found(text, 'e'), [[0, 1], [2, 3], ...[4, 4, 4].map(i => [i, i + 1]), [5, 6]])
  t.same(found(text, ''), [])
  t.same(found(text, 'ship'), [])
  t.same(found(index('aa', 'aa', 'a'), 'aa'), [
    [0, 1],
    [1, 2],
  ])
  t.same(found(index('İİ', 'x'), 'x'), [[1, 2]], 'letters whose lower case is longer')
  t.same(found(index('', '', 'x'), 'x'), [[2, 3]])
  t.same(found(index(), 'x'), [])
})
