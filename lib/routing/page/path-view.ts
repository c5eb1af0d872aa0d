/** The path of a token: in each layer, its experts. */
import { element } from '../../page/dom.js'
import type { Pick, SampleText } from './data.js'
import { count, decimal, KIND_NAMES, percent, symbols } from './format.js'
import { scrollBox } from './table.js'

/** A panel that shows one token's path at a time. */
export class PathView {
  readonly element: HTMLElement
  /** Of the element that says which token it is. */
  readonly id: string
  readonly #sample: SampleText
  readonly #summary: HTMLElement
  readonly #table = element('div')
  #shown = -1

  constructor(sample: SampleText, id: string) {
    this.#sample = sample
    this.id = id
    this.#summary = element('p', { id })
    const close = element('button', { type: 'button', class: 'plain close' }, 'Close')
    this.element = element('div', { class: 'path', role: 'group', 'aria-label': 'Path of a token' })
    this.element.append(close, this.#summary, this.#table)
    close.addEventListener('click', () => this.clear())
    this.clear()
  }

  clear(): void {
    this.#shown = -1
    this.element.classList.remove('is-open')
    this.#summary.textContent =
      'Point at a token, tap it, or go to it with Tab and the arrow keys: its path is shown here.'
    this.#table.replaceChildren()
  }

  /** Shows the path of token `i`. */
  async show(i: number): Promise<void> {
    this.#shown = i
    const sample = this.#sample
    const { window, position } = sample.place(i)
    const mean = decimal(sample.meanFfnExperts(i))
    this.element.classList.add('is-open')
    this.#summary.replaceChildren(
      element('code', {}, symbols(sample.text(i))),
      ` token ${count(i)}, id ${sample.id(i)}: ${mean} FFN experts per layer. `,
      `Window ${count(window)}, place ${count(position)}.`,
    )
    const path = await sample.path(i)
    // Another one may have been asked for.
    if (this.#shown !== i) return
    this.#table.replaceChildren(...(path ? this.#rows(i, path) : [unknown(sample)]))
  }

  #rows(i: number, path: readonly Pick[][]): HTMLElement[] {
    const { layers } = this.#sample
    const most = Math.max(...layers.map(({ topK }) => topK))
    const head = ['Layer', 'FFN', ...Array.from({ length: most }, (_, k) => `Pick ${k + 1}`)]
    const rows = path.map((picks, at) =>
      element(
        'tr',
        {},
        element('th', { scope: 'row' }, String(layers[at]!.layer)),
        element('td', {}, String(this.#sample.ffnExperts(i, at))),
        ...picks.map(pick => pickCell(pick, KIND_NAMES[layers[at]!.kinds[pick.expert]!] ?? '?')),
      ),
    )
    const table = element(
      'table',
      {},
      element(
        'thead',
        {},
        element('tr', {}, ...head.map(name => element('th', { scope: 'col' }, name))),
      ),
      element('tbody', {}, ...rows),
    )
    return [
      element(
        'p',
        { class: 'hint' },
        'Expert; its weight · its logit · its share that is replaced',
      ),
      scrollBox('Experts by layer', table),
    ]
  }
}

function pickCell({ expert, weight, logit, replaced }: Pick, kind: string): HTMLElement {
  const numbers = [decimal(weight), decimal(logit)]
  if (replaced > 0) numbers.push(percent(replaced).replace('.0', ''))
  const cell = element(
    'td',
    { class: 'pick' },
    element('b', {}, `${kind} ${expert}`),
    element('span', {}, numbers.join(' · ')),
  )
  cell.style.setProperty('--share', String(Math.min(Math.max(weight, 0), 1)))
  return cell
}

function unknown({ pathTokens }: SampleText): HTMLElement {
  const text = `The page has the paths of the first ${count(pathTokens)} tokens, to stay small.`
  return element('p', { class: 'hint' }, text)
}
