/** Shares of a layer's picks or tokens, as stacked bars. */
import { barY, stackY } from '@observablehq/plot'
import { EXPERT_KINDS, type ExpertKind } from '../../../program/expert-kinds.js'
import type { LayerStatistics } from '../../types.js'
import { count, KIND_NAMES, percent } from '../format.js'
import {
  type Chart,
  drawn,
  layersOf,
  type Named,
  numberedAxis,
  type Table,
  tableOf,
} from './chart.js'
import { KIND_FILLS } from './key.js'

/** Picks by kind of expert, one number for each. */
function picksByKind({ kinds, picks }: LayerStatistics, of: readonly ExpertKind[]): number[] {
  return of.map(kind =>
    picks.reduce((sum, value, expert) => sum + (kinds[expert] === kind ? value : 0), 0),
  )
}

/** The kinds of experts that a layer picks: figure 8 of the MoE++ paper. */
export function picksChart(subjects: readonly Named[]): Chart {
  const kinds = EXPERT_KINDS.filter(kind =>
    subjects.some(({ subject }) => subject.layers.some(each => each.kinds.includes(kind))),
  )
  return stackedChart({
    title: 'Picks by kind of expert',
    text: 'Each bar is a layer: the shares of its picks that went to experts of each kind.',
    subjects,
    parts: kinds.map(kind => ({ label: KIND_NAMES[kind], fill: KIND_FILLS[kind] })),
    valuesOf: layer => picksByKind(layer, kinds),
    unit: 'share of picks',
  })
}

/** Tokens by the number of their FFN experts. */
export function tokensChart(subjects: readonly Named[]): Chart {
  const layers = subjects.flatMap(({ subject }) => subject.layers)
  const most = layers.reduce((most, { topK }) => Math.max(most, topK), 0)
  return stackedChart({
    title: 'Tokens by their FFN experts',
    text: 'Each bar is a layer: the shares of its tokens by their FFN experts, none at the bottom.',
    subjects,
    parts: Array.from({ length: most + 1 }, (_, number) => ({
      label: number === 0 ? 'no FFN expert' : String(number),
      fill: number === 0 ? 'url(#fill-zero)' : strength(number / most),
    })),
    valuesOf: ({ ffnExperts }) => [...ffnExperts],
    unit: 'share of tokens',
  })
}

/** The colour of FFN experts, as strong as `share`. */
const strength = (share: number) =>
  `color-mix(in srgb, var(--ffn) ${Math.round(15 + 85 * share)}%, var(--surface))`

interface Stacks {
  readonly title: string
  readonly text: string
  readonly subjects: readonly Named[]
  /** From the bottom. */
  readonly parts: readonly { readonly label: string; readonly fill: string }[]
  /** Numbers of a layer, one for each part. */
  readonly valuesOf: (layer: LayerStatistics) => number[]
  readonly unit: string
}

function stackedChart(stacks: Stacks): Chart {
  const { title, text, subjects, parts, valuesOf, unit } = stacks
  const bars = subjects.flatMap(({ name, subject }) =>
    subject.layers.flatMap(layer => {
      const values = valuesOf(layer)
      const all = values.reduce((sum, value) => sum + value, 0)
      return parts.map(({ label, fill }, at) => {
        const share = all > 0 ? (values[at] ?? 0) / all : 0
        return {
          ...{ name, layer: layer.layer, share, fill },
          title: `layer ${layer.layer}, ${label}: ${percent(share)}`,
        }
      })
    }),
  )
  const numbers = layersOf(subjects)
  return {
    title,
    text,
    table: stackTable(stacks),
    draw: options =>
      drawn(options, {
        title,
        key: parts,
        height: 170,
        names: subjects.map(({ name }) => name),
        unit: `${unit}, %`,
        plot: {
          marginLeft: 48,
          x: { domain: numbers, type: 'band', padding: 0.12 },
          y: { domain: [0, 100], percent: true, label: null, ticks: 4 },
        },
        marks: [
          barY(
            bars,
            stackY({
              ...{ x: 'layer', y: 'share', fy: 'name', fill: 'fill', title: 'title' },
              ...{ stroke: 'var(--surface)', strokeWidth: 0.75 },
            }),
          ),
          numberedAxis(numbers, options.width, 'layer'),
        ],
      }),
  }
}

function stackTable({ subjects, parts, valuesOf }: Stacks): Table {
  const columns = parts.flatMap(({ label }) => [label, `${label}, %`])
  return tableOf(['Layer', ...columns], subjects, ({ layers }) =>
    layers.map(layer => {
      const values = valuesOf(layer)
      const all = Math.max(
        values.reduce((sum, value) => sum + value, 0),
        1,
      )
      const cells = parts.flatMap((_, at) => [
        count(values[at] ?? 0),
        ((100 * (values[at] ?? 0)) / all).toFixed(1),
      ])
      return [String(layer.layer), ...cells]
    }),
  )
}
