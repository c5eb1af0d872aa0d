/** The report's page: its parts, put together. */
import { byId, element } from '../../page/dom.js'
import { themeButton } from '../../page/theme.js'
import { type Chart, type Named, named } from './charts/chart.js'
import { chartsOf } from './charts/index.js'
import { patterns, svgElement } from './charts/key.js'
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
  const { places, shares, loads, scores, agreement, costs } = chartsOf(subjects)
  document.title = `Routing of ${subjects.map(({ name }) => name).join(', ')}`
  part('overview', ...overview(report, subjects))
  part('text', texts(subjects, samples))
  const words = [vocabulary(subjects), ...places.map(figure)]
  part('vocabulary', element('div', { class: 'figures' }, ...words))
  part('layers', figures(...shares), ...loads.map(figure))
  part('residuals', ...residuals(subjects, scores, agreement))
  part('cost', ...cost(subjects, costs))
}

function residuals(
  subjects: readonly Named[],
  scores: readonly Chart[],
  agreement: readonly Chart[],
): HTMLElement[] {
  const hasOwn = subjects.some(({ subject }) => subject.layers.some(each => each.router?.ownScores))
  const made: HTMLElement[] = []
  if (!hasOwn)
    made.push(note('No gating residuals: the routers of this model do not see earlier scores.'))
  if (scores.length > 0) made.push(figures(...scores))
  if (agreement.length > 0)
    made.push(element('h3', {}, 'Neighbouring layers'), figures(...agreement))
  return made
}

function cost(subjects: readonly Named[], costs: readonly Chart[]): HTMLElement[] {
  if (costs.length === 0) return [note('The report has no costs.')]
  const isMeasured = subjects.some(({ subject }) => subject.cost?.model.measured)
  return [figures(...costs), ...(isMeasured ? [] : [note('The time of a token was not measured.')])]
}

const state = byId('state', HTMLElement)
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
// Last: a browser that keeps nothing for files may refuse it.
themeButton(byId('theme', HTMLButtonElement))
