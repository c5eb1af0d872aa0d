/** Tables of numbers. */
import { element } from '../../page/dom.js'
import type { Table } from './charts/chart.js'

/** A table in a box that scrolls sideways where it is too wide. */
export function tableElement({ columns, rows }: Table, label: string): HTMLElement {
  const head = columns.map(column => element('th', { scope: 'col' }, column))
  const body = rows.map(([first = '', ...cells]) =>
    element(
      'tr',
      {},
      element('th', { scope: 'row' }, first),
      ...cells.map(cell => element('td', {}, cell)),
    ),
  )
  return scrollBox(
    label,
    element(
      'table',
      {},
      element('thead', {}, element('tr', {}, ...head)),
      element('tbody', {}, ...body),
    ),
  )
}

/** Keys scroll it, too. */
export function scrollBox(label: string, ...contents: Node[]): HTMLElement {
  const attributes = { class: 'wide', role: 'group', tabindex: '0', 'aria-label': label }
  return element('div', attributes, ...contents)
}
