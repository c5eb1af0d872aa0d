/** Numbers over layers, as lines: entropies, routing scores, agreement of neighbours. */
import { dot, line, ruleX, ruleY } from '@observablehq/plot'
import { entropy, routerEntropy } from '../../balance.js'
import type { LayerAgreement, LayerStatistics, Moments, Subject } from '../../types.js'
import { decimal } from '../format.js'
import { type Chart, drawn, type Named, numberedAxis, numbersOf, tableOf } from './chart.js'

/** The look of the first, second and third line: none is known by its colour alone. */
const LOOKS = [
  { fill: 'var(--series-1)', dash: '', symbol: 'circle' },
  { fill: 'var(--series-2)', dash: '6 3', symbol: 'square2' },
  { fill: 'var(--series-3)', dash: '2 3', symbol: 'triangle2' },
] as const

/** A number of each layer; undefined where it has none. */
interface Line<Row> {
  readonly label: string
  readonly value: (row: Row) => number | null | undefined
  /** The ends of a bar around it. */
  readonly range?: (row: Row) => readonly [number, number] | undefined
}

interface Lines<Row extends { readonly layer: number }> {
  readonly title: string
  readonly text: string
  readonly unit: string
  readonly subjects: readonly Named[]
  readonly rows: (subject: Subject) => readonly Row[]
  readonly lines: readonly Line<Row>[]
  readonly decimals: number
}

/** Shows whether picks are spread evenly, and how sure the router is. */
export function entropyChart(subjects: readonly Named[]): Chart {
  return lineChart<LayerStatistics>({
    title: 'Entropy of loads and of the router',
    text:
      'Loads that reach the upper line are even; a router with a low entropy is sure of its ' +
      'choice for each token.',
    unit: 'bits',
    subjects,
    rows: ({ layers }) => layers,
    decimals: 3,
    lines: [
      { label: 'loads of experts', value: ({ picks }) => entropy(picks) },
      {
        label: 'router, mean of tokens',
        value: routerEntropy,
      },
      { label: 'even loads', value: ({ picks }) => Math.log2(picks.length) },
    ],
  })
}

/** Variance of routing scores with gating residuals and without: figure 6 of the MoE++ paper. */
export function varianceChart(subjects: readonly Named[]): Chart {
  return lineChart<LayerStatistics>({
    title: 'Variance of routing scores',
    text: 'Without it, a router’s scores lack the part that it takes over from the layer before.',
    unit: 'variance',
    subjects,
    rows: ({ layers }) => layers,
    decimals: 3,
    lines: moments(({ variance }) => variance),
  })
}

/** Mean and range of routing scores. */
export function rangeChart(subjects: readonly Named[]): Chart {
  return lineChart<LayerStatistics>({
    title: 'Mean and range of routing scores',
    text: 'Dots are means. Each bar reaches from the least score of a layer to the greatest.',
    unit: 'score',
    subjects,
    rows: ({ layers }) => layers,
    decimals: 2,
    lines: moments(
      ({ mean }) => mean,
      ({ least, most }) => [least, most],
    ),
  })
}

function moments(
  value: (moments: Moments) => number,
  range?: (moments: Moments) => readonly [number, number],
): Line<LayerStatistics>[] {
  const line = (label: string, of: (layer: LayerStatistics) => Moments | undefined) => ({
    label,
    value: (layer: LayerStatistics) => {
      const found = of(layer)
      return found && value(found)
    },
    ...(range && {
      range: (layer: LayerStatistics) => {
        const found = of(layer)
        return found && range(found)
      },
    }),
  })
  return [
    line('with the residual', ({ router }) => router?.scores),
    line('without it', ({ router }) => router?.ownScores),
  ]
}

const agreementOf = ({ agreement }: Subject) => agreement

/** Choices that a layer shares with the next one. */
export function sameChart(subjects: readonly Named[]): Chart {
  return lineChart<LayerAgreement>({
    title: 'Same experts in the next layer',
    text: 'Mean share of a token’s picks whose number the next layer with experts picks, too.',
    unit: 'share of picks',
    subjects,
    rows: agreementOf,
    decimals: 3,
    lines: [
      { label: 'same', value: ({ same }) => same },
      { label: 'expected of independent picks', value: ({ expected }) => expected },
    ],
  })
}

export function informationChart(subjects: readonly Named[]): Chart {
  return lineChart<LayerAgreement>({
    title: 'Information about the next layer',
    text: 'Bits that a token’s first choice tells about its first choice in the next layer.',
    unit: 'bits',
    subjects,
    rows: agreementOf,
    decimals: 3,
    lines: [{ label: 'mutual information', value: ({ information }) => information }],
  })
}

export function correlationChart(subjects: readonly Named[]): Chart {
  return lineChart<LayerAgreement>({
    title: 'Cost of a token in neighbouring layers',
    text: 'Above 0, tokens with more FFN experts have more of them in the next layer, too.',
    unit: 'correlation',
    subjects,
    rows: agreementOf,
    decimals: 3,
    lines: [{ label: 'of FFN experts', value: ({ ffnCorrelation }) => ffnCorrelation }],
  })
}

function lineChart<Row extends { readonly layer: number }>(chart: Lines<Row>): Chart {
  const { title, text, unit, subjects, rows, lines, decimals } = chart
  const numbers = numbersOf(subjects.flatMap(({ subject }) => rows(subject)))
  const points = lines.map(({ value, range, label }) =>
    subjects.flatMap(({ name, subject }) =>
      rows(subject).map(row => {
        const y = value(row) ?? Number.NaN
        const [least, most] = range?.(row) ?? [y, y]
        const title = `layer ${row.layer}, ${label}: ${decimal(y, decimals)}`
        return { name, layer: row.layer, y, least, most, title }
      }),
    ),
  )
  const hasRange = lines.some(({ range }) => range !== undefined)
  const labels = lines.flatMap(({ label, range }) =>
    range ? [label, `${label}: least`, 'greatest'] : [label],
  )
  return {
    title,
    text,
    table: tableOf(['Layer', ...labels], subjects, subject =>
      rows(subject).map(row => [
        String(row.layer),
        ...lines.flatMap(({ value, range }) => [
          decimal(value(row), decimals),
          ...(range ? [0, 1].map(end => decimal(range(row)?.[end], decimals)) : []),
        ]),
      ]),
    ),
    draw: options =>
      drawn(options, {
        title,
        ...(lines.length > 1 && { key: lines.map(({ label }, at) => ({ label, ...look(at) })) }),
        height: 170,
        names: subjects.map(({ name }) => name),
        unit,
        plot: {
          marginLeft: 48,
          x: { domain: numbers, type: 'point' },
          y: {
            ...{ label: null, grid: true, ticks: 5, nice: true },
            zero: !hasRange,
          },
        },
        marks: [
          ruleY([0], { stroke: 'var(--edge)' }),
          ...points.flatMap((series, at) => seriesMarks(series, at, hasRange)),
          numberedAxis(numbers, options.width, 'layer'),
        ],
      }),
  }
}

const look = (at: number) => LOOKS[at % LOOKS.length]!

interface Point {
  readonly least: number
  readonly most: number
}

function seriesMarks(points: readonly Point[], at: number, hasRange: boolean) {
  const { fill, dash, symbol } = look(at)
  const place = { x: 'layer', fy: 'name', dx: hasRange ? 5 * at - 2.5 : 0 }
  const bars = ruleX(points, {
    ...{ ...place, y1: 'least', y2: 'most', stroke: fill, strokeWidth: 2.5 },
  })
  return [
    hasRange
      ? bars
      : line(points, { ...place, y: 'y', stroke: fill, strokeWidth: 2, strokeDasharray: dash }),
    dot(points, { ...place, y: 'y', fill, symbol, r: 3, title: 'title' }),
  ]
}
