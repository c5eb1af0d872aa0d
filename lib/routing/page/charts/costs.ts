/** A token's cost beside the vanilla twin's, as bars. */
import { barX, text } from '@observablehq/plot'
import type { Cost, TokenCost } from '../../types.js'
import { large, percent, seconds } from '../format.js'
import { type Chart, drawn, type Named } from './chart.js'

interface Bar {
  readonly name: string
  readonly label: string
  readonly value: number
  readonly fill: string
}

interface Bars {
  readonly title: string
  readonly text: string
  readonly format: (value: number) => string
  readonly bars: readonly Bar[]
  /** The report has several subjects, though not all may have bars. */
  readonly isNamed: boolean
}

const costsOf = (subjects: readonly Named[]) =>
  subjects.flatMap(({ name, subject: { cost } }) => (cost === null ? [] : [{ name, cost }]))

const SIDES = [
  ['model', 'this model', 'var(--ffn)'],
  ['twin', 'vanilla twin', 'color-mix(in srgb, var(--zero) 45%, var(--surface))'],
] as const

/** Two charts, and two of time where it is known; none without costs. */
export function costCharts(subjects: readonly Named[]): Chart[] {
  const costs = costsOf(subjects)
  if (costs.length === 0) return []
  const isNamed = subjects.length > 1
  const plain = (of: (cost: TokenCost) => number) =>
    costs.flatMap(({ name, cost }) =>
      SIDES.map(([side, label, fill]) => ({ name, label, value: of(cost[side]), fill })),
    )
  const charts = [
    barChart({
      title: 'Operations per token',
      text: 'Those of the matrix products of a prefill. The twin has an FFN expert for each pick.',
      format: value => large(value, 'FLOP'),
      bars: plain(({ operations }) => operations),
      isNamed,
    }),
    barChart({
      title: 'Bytes per token',
      text: 'Weights, keys and values that a decode step of one sequence must read.',
      format: value => large(value, 'B'),
      bars: plain(({ bytes }) => bytes),
      isNamed,
    }),
  ]
  for (const phase of ['prefill', 'decode'] as const) {
    const bars = costs.flatMap(({ name, cost }) => timeBars(name, cost, phase))
    if (bars.length === 0) continue
    charts.push(
      barChart({
        title: `Time per token, ${phase}`,
        text: 'Predicted is the time that the ceilings of the machine allow; measured is by the clock.',
        format: seconds,
        bars,
        isNamed,
      }),
    )
  }
  return charts
}

function timeBars(name: string, cost: Cost, phase: 'prefill' | 'decode'): Bar[] {
  return SIDES.flatMap(([side, label, fill]) =>
    (['predicted', 'measured'] as const).flatMap(kind => {
      const value = cost[side][kind]?.[phase]
      return value === undefined ? [] : [{ name, label: `${label}, ${kind}`, value, fill }]
    }),
  )
}

function barChart({ title, text: sentence, format, bars, isNamed }: Bars): Chart {
  const names = [...new Set(bars.map(({ name }) => name))]
  const domain = [...new Set(bars.map(({ label }) => label))]
  return {
    title,
    text: sentence,
    table: {
      columns: ['Model', ...names],
      rows: domain.map(label => [
        label,
        ...names.map(name => {
          const bar = bars.find(bar => bar.name === name && bar.label === label)
          return bar ? format(bar.value) : '–'
        }),
      ]),
    },
    draw: options =>
      drawn(options, {
        title,
        height: 30 * domain.length,
        names,
        isNamed,
        plot: {
          marginLeft: domain.some(label => label.length > 14) ? 152 : 88,
          marginRight: 88,
          marginBottom: 6,
          x: { axis: null, zero: true },
          y: { domain, type: 'band', label: null, tickSize: 0, padding: 0.2 },
        },
        marks: [
          barX(bars, {
            ...{ x: 'value', y: 'label', fy: 'name', fill: 'fill', stroke: 'var(--edge)' },
          }),
          text(bars, {
            ...{ x: 'value', y: 'label', fy: 'name', textAnchor: 'start', dx: 6 },
            text: ({ value }: Bar) => format(value),
          }),
        ],
      }),
  }
}

/** Sentences: operations, bytes and time of a model against its twin. */
export function savings({ model, twin }: Cost): string {
  const work =
    `Beside its vanilla twin, the model does ` +
    `${against(model.operations, twin.operations, 'fewer', 'as many')} operations, and a decode ` +
    `step reads ${against(model.bytes, twin.bytes, 'fewer', 'as many')} bytes.`
  const [own, other] = [model.measured, twin.measured]
  if (!own || !other) return work
  const [prefill, decode] = (['prefill', 'decode'] as const).map(phase =>
    against(own[phase], other[phase], 'less', 'as much'),
  )
  return `${work} As measured, prefill takes ${prefill} time, and decode ${decode}.`
}

/** 12.5 % fewer. */
function against(value: number, other: number, fewer: string, same: string): string {
  const share = value / other - 1
  const shown = percent(Math.abs(share))
  if (shown === percent(0)) return same
  return `${shown} ${share < 0 ? fewer : 'more'}`
}
