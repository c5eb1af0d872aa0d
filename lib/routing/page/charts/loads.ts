/** The load of each expert, as a map of layers and experts. */
import { axisY, cell, ruleX, text } from '@observablehq/plot'
import type { ExpertKind } from '../../../program/expert-kinds.js'
import type { LayerStatistics } from '../../types.js'
import { count, decimal, KIND_NAMES } from '../format.js'
import { type Chart, drawn, layersOf, type Named, numberedAxis, tableOf } from './chart.js'

const TITLE = 'Load of each expert'
const ROW = 18
const LEFT = 40
const RIGHT = 8
/** Pixels of a cell that has room for its number. */
const WIDE = 26
/** Loads beyond 4 times the mean, or a fourth of it, have full colour. */
const FULL = 2

/** The picks of an expert, divided by the mean of its layer. */
export function loadOf({ picks }: LayerStatistics, expert: number): number {
  const all = picks.reduce((sum, value) => sum + value, 0)
  return all > 0 ? (picks[expert]! * picks.length) / all : 0
}

export function loadChart(subjects: readonly Named[]): Chart {
  const layers = layersOf(subjects)
  const experts = subjects.reduce(
    (most, { subject }) => Math.max(most, ...subject.layers.map(({ picks }) => picks.length)),
    0,
  )
  return {
    title: TITLE,
    text:
      'Each cell is an expert’s picks, divided by the mean of its layer: 1 is the mean, × an ' +
      `expert without any. Experts: ${kindsText(subjects)}.`,
    table: tableOf(['Layer', 'Expert', 'Kind', 'Picks', 'Load'], subjects, subject =>
      subject.layers.flatMap(layer =>
        layer.picks.map((picks, expert) => [
          ...[String(layer.layer), String(expert), KIND_NAMES[layer.kinds[expert]!]],
          ...[count(picks), decimal(loadOf(layer, expert))],
        ]),
      ),
    ),
    draw: options =>
      drawn(options, {
        title: TITLE,
        key: [0.25, 0.5, 1, 2, 4].map(load => ({
          label: load === 0.25 ? '¼ of the mean' : load === 0.5 ? '½' : String(load),
          fill: colour(load),
        })),
        height: ROW * layers.length,
        names: subjects.map(({ name }) => name),
        unit: 'layer',
        plot: {
          marginLeft: LEFT,
          marginRight: RIGHT,
          x: { domain: Array.from({ length: experts }, (_, i) => i), type: 'band', padding: 0.04 },
          y: { domain: layers, type: 'band', padding: 0.06 },
        },
        marks: marks(subjects, layers, experts, options.width),
      }),
  }
}

function marks(
  subjects: readonly Named[],
  layers: readonly number[],
  experts: number,
  width: number,
) {
  const cells = subjects.flatMap(({ name, subject }) =>
    subject.layers.flatMap(layer =>
      layer.picks.map((picks, expert) => {
        const load = loadOf(layer, expert)
        const kind = KIND_NAMES[layer.kinds[expert]!]
        return {
          ...{ name, layer: layer.layer, expert, fill: colour(load) },
          label: picks === 0 ? '×' : decimal(load, 1),
          title: `layer ${layer.layer}, ${kind} ${expert}: ${decimal(load)} of the mean`,
        }
      }),
    ),
  )
  const isWide = (width - LEFT - RIGHT) / experts >= WIDE
  const place = { x: 'expert', y: 'layer', fy: 'name' }
  return [
    cell(cells, { ...place, fill: 'fill', title: 'title' }),
    text(isWide ? cells : cells.filter(({ label }) => label === '×'), {
      ...{ ...place, text: 'label', fontSize: 10, fill: 'var(--text)', pointerEvents: 'none' },
    }),
    ...kindMarks(subjects, experts, width),
    axisY(layers, { label: null, tickSize: 0, tickFormat: String }),
    numberedAxis(
      Array.from({ length: experts }, (_, i) => i),
      width,
      'expert',
    ),
  ]
}

/** Blue below the mean, orange above it. */
function colour(load: number): string {
  const strength = Math.min(Math.abs(Math.log2(Math.max(load, 1e-9))) / FULL, 1)
  const side = load < 1 ? 'var(--below)' : 'var(--above)'
  return `color-mix(in srgb, ${side} ${Math.round(strength * 100)}%, var(--middle))`
}

interface Run {
  readonly kind: ExpertKind
  readonly from: number
  /** The first expert after it. */
  readonly to: number
}

/** Experts of one kind beside each other, as the first layer has them. */
function runsOf({ subject }: Named): Run[] {
  const kinds = subject.layers[0]?.kinds ?? []
  const runs: Run[] = []
  for (let from = 0, to = 0; from < kinds.length; from = to) {
    while (to < kinds.length && kinds[to] === kinds[from]) to++
    runs.push({ kind: kinds[from]!, from, to })
  }
  return runs
}

/** Lines before the first expert of another kind, and the kinds' names where they have room. */
function kindMarks(subjects: readonly Named[], experts: number, width: number) {
  const cellWidth = (width - LEFT - RIGHT) / experts
  const runs = subjects.flatMap(named =>
    runsOf(named).map(run => ({ ...run, name: named.name, label: KIND_NAMES[run.kind] })),
  )
  // From the middle of a cell to its left edge.
  const place = { x: 'from', fy: 'name', dx: -cellWidth / 2 }
  return [
    ruleX(
      runs.filter(({ from }) => from > 0),
      { ...place, stroke: 'var(--text)', strokeWidth: 1.5 },
    ),
    text(
      runs.filter(({ from, to, label }) => (to - from) * cellWidth > label.length * 6.6),
      { ...place, text: 'label', frameAnchor: 'top', textAnchor: 'start', dy: -11, fontSize: 10 },
    ),
  ]
}

/** The experts of each kind. */
function kindsText([first]: readonly Named[]): string {
  const runs = first === undefined ? [] : runsOf(first)
  return runs
    .map(({ kind, from, to }) => `${from}${to - 1 > from ? `–${to - 1}` : ''} ${KIND_NAMES[kind]}`)
    .join(', ')
}
