/** All charts of a report. */
import type { Subject } from '../../types.js'
import { type Chart, type Named, named } from './chart.js'
import { costCharts } from './costs.js'
import {
  correlationChart,
  entropyChart,
  informationChart,
  rangeChart,
  sameChart,
  varianceChart,
} from './lines.js'
import { loadChart } from './loads.js'
import { placesChart } from './places.js'
import { picksChart, tokensChart } from './stacks.js'

export { patterns } from './key.js'

/** The charts of each part; none where the subjects lack their numbers. */
export function chartsOf(subjects: readonly Named[]) {
  const some = (has: (named: Named) => boolean, ...charts: ((of: readonly Named[]) => Chart)[]) =>
    subjects.some(has) ? charts.map(chart => chart(subjects)) : []
  return {
    places: some(({ subject }) => subject.places.length > 0, placesChart),
    shares: [picksChart, tokensChart, entropyChart].map(chart => chart(subjects)),
    loads: [loadChart(subjects)],
    scores: some(
      ({ subject }) => subject.layers.some(({ router }) => router !== undefined),
      varianceChart,
      rangeChart,
    ),
    agreement: some(
      ({ subject }) => subject.agreement.length > 0,
      sameChart,
      informationChart,
      correlationChart,
    ),
    costs: costCharts(subjects),
  }
}

export function allCharts(subjects: readonly Subject[]): Chart[] {
  return Object.values(chartsOf(named(subjects))).flat()
}
