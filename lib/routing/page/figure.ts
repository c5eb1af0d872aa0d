/** Charts on the page: title, sentence, drawing, numbers. */
import { element } from '../../page/dom.js'
import type { Chart } from './charts/chart.js'
import { tableElement } from './table.js'

/** Pixels that a chart needs for its labels; a narrower box shows it smaller. */
const LEAST_WIDTH = 280
/** Rows of a table that a print shows. */
const PRINTED_ROWS = 60

/** Charts side by side where they have room. */
export function figures(...charts: Chart[]): HTMLElement {
  return element('div', { class: 'figures' }, ...charts.map(figure))
}

export function figure(chart: Chart): HTMLElement {
  const { title, text, table } = chart
  const box = element('div', { class: 'drawing' })
  drawIn(box, chart)
  const numbers = element('details', {}, element('summary', {}, 'Numbers'))
  const fill = () => {
    if (numbers.children.length === 1) numbers.append(tableElement(table, `${title}: numbers`))
  }
  numbers.addEventListener('toggle', fill)
  if (table.rows.length <= PRINTED_ROWS) openForPrint(numbers, fill)
  return element(
    'figure',
    {},
    element('figcaption', {}, element('h3', {}, title), element('p', {}, text)),
    box,
    numbers,
  )
}

/** Draws it anew where the box has another width. */
function drawIn(box: HTMLElement, chart: Chart): void {
  let drawn = 0
  new ResizeObserver(() => {
    const width = Math.floor(box.clientWidth)
    if (width === drawn || width === 0) return
    drawn = width
    box.replaceChildren(chart.draw({ document, width: Math.max(width, LEAST_WIDTH) }))
  }).observe(box)
}

function openForPrint(numbers: HTMLDetailsElement, fill: () => void): void {
  let wasOpen = false
  addEventListener('beforeprint', () => {
    wasOpen = numbers.open
    fill()
    numbers.open = true
  })
  addEventListener('afterprint', () => {
    numbers.open = wasOpen
  })
}
