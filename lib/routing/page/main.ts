/** The report's page: its parts, put together. */
import { byId, element } from '../../page/dom.js'
import { themeButton } from '../../page/theme.js'
import { type Named, named } from './charts/chart.js'
import { costCharts, savings } from './charts/costs.js'
import { patterns, svgElement } from './charts/key.js'
import {
  correlationChart,
  entropyChart,
  informationChart,
  rangeChart,
  sameChart,
  varianceChart,
} from './charts/lines.js'
import { loadChart } from './charts/loads.js'
import { placesChart } from './charts/places.js'
import { picksChart, tokensChart } from './charts/stacks.js'
import { type Unpacked, unpacked } from './data.js'
import { figure, figures } from './figure.js'
import { overview } from './overview.js'
import { texts } from './texts.js'
import { vocabulary } from './vocabulary.js'

const part = (id: string, ...contents: (Node | string)[]) =>
  byId(id, HTMLElement).append(...contents)

const note = (text: string) => element('p', { class: 'note' }, text)

function show({ report, samples }: Unpacked): void {
  const subjects = named(report.subjects)
  document.title = `Routing of ${subjects.map(({ name }) => name).join(', ')}`
  part('overview', ...overview(report, subjects))
  part('text', texts(subjects, samples))
  part('vocabulary', element('div', { class: 'figures' }, ...words(subjects)))
  part('layers', ...layers(subjects))
  part('residuals', ...residuals(subjects))
  part('cost', ...cost(subjects))
}

function words(subjects: readonly Named[]): HTMLElement[] {
  const hasPlaces = subjects.some(({ subject }) => subject.places.length > 0)
  return [vocabulary(subjects), ...(hasPlaces ? [figure(placesChart(subjects))] : [])]
}

function layers(subjects: readonly Named[]): HTMLElement[] {
  return [
    figures(picksChart(subjects), tokensChart(subjects), entropyChart(subjects)),
    figure(loadChart(subjects)),
  ]
}

function residuals(subjects: readonly Named[]): HTMLElement[] {
  const hasScores = (key: 'scores' | 'ownScores') =>
    subjects.some(({ subject }) => subject.layers.some(({ router }) => router?.[key]))
  const made: HTMLElement[] = []
  if (!hasScores('ownScores'))
    made.push(note('No gating residuals: the routers of this model do not see earlier scores.'))
  if (hasScores('scores')) made.push(figures(varianceChart(subjects), rangeChart(subjects)))
  if (subjects.some(({ subject }) => subject.agreement.length > 0)) {
    made.push(element('h3', {}, 'Neighbouring layers'))
    const charts = [sameChart(subjects), informationChart(subjects), correlationChart(subjects)]
    made.push(figures(...charts))
  }
  return made
}

function cost(subjects: readonly Named[]): HTMLElement[] {
  const sentences = subjects.flatMap(
    ({ name, subject }) => savings(subjects.length > 1 ? name : 'This model', subject.cost) ?? [],
  )
  if (sentences.length === 0) return [note('The report has no costs.')]
  const isMeasured = subjects.some(({ subject }) => subject.cost?.model.measured)
  return [
    ...sentences.map(note),
    figures(...costCharts(subjects)),
    ...(isMeasured ? [] : [note('The time of a token was not measured.')]),
  ]
}

const state = byId('state', HTMLElement)
themeButton(byId('theme', HTMLButtonElement))
try {
  const data = await unpacked(byId('data', HTMLElement).textContent)
  const shared = { class: 'unseen', 'aria-hidden': 'true' }
  document.body.append(svgElement(document, 'svg', shared, patterns(document)))
  show(data)
  state.hidden = true
} catch (error) {
  state.textContent = `The report cannot be shown: ${error}`
  throw error
}
