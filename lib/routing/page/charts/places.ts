/** FFN experts by a token's place in its word. */
import { dot, ruleX, ruleY, text } from '@observablehq/plot'
import type { WordPlace } from '../../types.js'
import { count, decimal } from '../format.js'
import { type Chart, drawn, type Named, tableOf } from './chart.js'

const TITLE = 'FFN experts by place in the word'

const PLACES: Readonly<Record<WordPlace, string>> = {
  whole: 'whole word',
  first: 'first of a word',
  middle: 'within a word',
  last: 'last of a word',
  number: 'number',
  punctuation: 'punctuation',
  other: 'other',
}

export function placesChart(subjects: readonly Named[]): Chart {
  const rows = subjects.flatMap(({ name, subject }) =>
    subject.places.map(({ place, ffnExperts: { mean, halfWidth, count: places } }) => {
      const half = halfWidth ?? 0
      const interval = halfWidth === null ? '' : ` ± ${decimal(halfWidth, 3)}`
      return {
        ...{ name, mean, place: PLACES[place], least: mean - half, most: mean + half },
        title: `${PLACES[place]}: ${decimal(mean, 3)}${interval}, ${count(places)}`,
      }
    }),
  )
  const most = Math.max(...rows.map(({ most }) => most))
  const isPoint = rows.every(({ least }) => least === most)
  const domain = Object.values(PLACES).filter(place => rows.some(row => row.place === place))
  return {
    title: TITLE,
    text: 'Dots are means, with their 95 % intervals as lines. The dashed line is the mean of the text.',
    table: tableOf(['Place', 'Tokens', 'Mean', '± 95 %'], subjects, ({ places }) =>
      places.map(({ place, ffnExperts: { count: places, mean, halfWidth } }) => [
        ...[PLACES[place], count(places), decimal(mean, 3), decimal(halfWidth, 3)],
      ]),
    ),
    draw: options =>
      drawn(options, {
        title: TITLE,
        height: 24 * domain.length,
        names: subjects.map(({ name }) => name),
        plot: {
          marginLeft: 108,
          marginRight: 52,
          x: {
            ...{ label: 'FFN experts per token and layer', labelAnchor: 'center', grid: true },
            ...{
              labelArrow: 'none',
              labelOffset: 34,
              inset: 6,
              ...(isPoint && { domain: [0, Math.max(most, 1)] }),
              ticks: Math.max(3, Math.floor(options.width / 110)),
            },
          },
          y: { domain, type: 'band', label: null, tickSize: 0 },
        },
        marks: [
          ruleX(subjects, {
            ...{ x: ({ subject }: Named) => subject.ffnExperts.mean, fy: 'name' },
            ...{ stroke: 'var(--edge)', strokeDasharray: '3 3' },
          }),
          ruleY(rows, {
            ...{ y: 'place', x1: 'least', x2: 'most', fy: 'name' },
            ...{ stroke: 'var(--series-1)', strokeWidth: 2.5 },
          }),
          dot(rows, {
            ...{ y: 'place', x: 'mean', fy: 'name', r: 4.5, fill: 'var(--series-1)' },
            title: 'title',
          }),
          text(rows, {
            ...{ y: 'place', fy: 'name', frameAnchor: 'right', textAnchor: 'start', dx: 8 },
            text: ({ mean }: { mean: number }) => decimal(mean, 2),
          }),
        ],
      }),
  }
}
