/** Charts as they are drawn where there is no browser. */
import { parseHTML } from 'linkedom'
import t from 'tap'
import { EXPERT_KINDS } from '../../lib/program/expert-kinds.js'
import type { Subject } from '../../lib/routing/types.js'
import { reportOf, type Shape, surveyed } from './fixture.js'

/** The part of an element that these tests look at. */
interface Part {
  readonly textContent: string
  getAttribute(name: string): string | null
  querySelector(selector: string): Part | null
  querySelectorAll(selector: string): ArrayLike<Part>
}

interface Chart {
  readonly title: string
  readonly text: string
  readonly table: { readonly columns: string[]; readonly rows: string[][] }
  draw(options: { document: object; width: number }): Part
}

// Its types are a browser's, which tests do not have: `tsc -p lib/page` checks it.
const path = '../../lib/routing/page/charts/index.js'
const {
  allCharts,
  patterns,
}: {
  allCharts: (subjects: readonly Subject[]) => Chart[]
  patterns: (document: object) => Part
} = await import(path)

const SHAPE: Shape = {
  ...{ tokens: 400, layers: 6, topK: 2 },
  experts: { ffn: 4, constant: 2, copy: 1, zero: 1 },
}
const one = surveyed(SHAPE)
const other = surveyed({ ...SHAPE, seed: 2, model: 'models/other' })
const { document } = parseHTML('<html><body></body></html>')

function drawn(title: string, subjects = [one.subject]): Part {
  const chart = allCharts(subjects).find(chart => chart.title === title)!
  return chart.draw({ document, width: 480 })
}

/** Numbers of an attribute of all elements that have a title. */
const numbers = (svg: Part, tag: string, name: string): number[] =>
  Array.from(svg.querySelectorAll(`${tag}:has(> title)`), part => Number(part.getAttribute(name)))

const isNear = (got: number, expected: number) => Math.abs(got - expected) < 1e-6

t.test('bars are as high as the shares', async t => {
  const heights = numbers(drawn('Picks by kind of expert'), 'rect', 'height')
  const expected: number[] = []
  for (const kind of EXPERT_KINDS) {
    for (const { picks, kinds, tokens, topK } of one.subject.layers) {
      let sum = 0
      for (let e = 0; e < picks.length; e++) if (kinds[e] === kind) sum += picks[e]!
      expected.push(sum / (tokens * topK))
    }
  }
  const whole = heights.reduce((sum, height) => sum + height, 0) / SHAPE.layers
  t.ok(whole > 100, 'in pixels')
  const sorted = (values: number[]) => values.sort((a, b) => a - b)
  const shares = sorted(heights.map(height => height / whole))
  t.equal(shares.length, expected.length)
  sorted(expected).forEach((share, i) => {
    t.ok(isNear(shares[i]!, share), `${shares[i]} ${share}`)
  })
})

t.test('points are where the numbers are', async t => {
  const svg = drawn('Information about the next layer')
  const places = numbers(svg, 'circle', 'cy')
  const values = one.subject.agreement.map(({ information }) => information)
  const slope = (i: number) => (places[i]! - places[0]!) / (values[i]! - values[0]!)
  t.equal(places.length, values.length)
  t.ok(slope(1) < 0, 'upwards')
  for (let i = 2; i < values.length; i++)
    t.ok(Math.abs(slope(i) / slope(1) - 1) < 1e-3, `point ${i}`)
})

t.test('a cell for each expert, a cross for a dead one', async t => {
  const [layer, ...layers] = one.subject.layers
  const picks = layer!.picks.map((count, expert) => (expert === 1 ? 0 : count + 1))
  const subject = { ...one.subject, layers: [{ ...layer!, picks }, ...layers] }
  const svg = drawn('Load of each expert', [subject])
  t.equal(svg.querySelectorAll('rect:has(> title)').length, 6 * 8)
  const dead = subject.layers.flatMap(({ picks }) => picks.filter(count => count === 0)).length
  const crosses = Array.from(svg.querySelectorAll('text'), text => text.textContent)
  t.equal(crosses.filter(text => text === '×').length, dead)
  const all = picks.reduce((sum, count) => sum + count, 0)
  const load = ((picks[0]! * 8) / all).toFixed(2)
  t.match(svg.querySelector('rect > title')!.textContent, `layer 1, FFN 0: ${load} of the mean`)
})

t.test('each chart: a name, a sentence, numbers, no style of Plot', async t => {
  for (const subjects of [[one.subject], [one.subject, other.subject]]) {
    for (const { title, text, table, draw } of allCharts(subjects)) {
      const svg = draw({ document, width: 320 })
      t.equal(svg.getAttribute('aria-label'), title)
      t.match(text, /^[A-Z].*[.]$/)
      t.ok(table.rows.length > 0 && table.rows.every(row => row.length === table.columns.length))
      t.equal(svg.querySelector('style'), null, 'the policy forbids it')
      t.notMatch(String(svg), /NaN|undefined|Infinity/, title)
      if (subjects.length > 1) t.match(String(svg), /other/, 'both are named')
    }
  }
  t.equal(allCharts(reportOf(one.subject).subjects).length, 14)
  t.equal(patterns(document).querySelectorAll('pattern').length, 3)
})

t.test('what a family does not have is not drawn', async t => {
  const { subject } = surveyed({ ...SHAPE, hasCost: false })
  const layers = subject.layers.map(({ router: _, ...layer }) => layer)
  const titles = allCharts([{ ...subject, layers, agreement: [], places: [] }]).map(c => c.title)
  t.same(titles, [
    'Picks by kind of expert',
    'Tokens by their FFN experts',
    'Entropy of loads and of the router',
    'Load of each expert',
  ])
})
