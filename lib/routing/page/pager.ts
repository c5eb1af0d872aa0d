/** Turns pages: buttons for the next and the previous one, and a field for any. */
import { element } from '../../page/dom.js'
import { count } from './format.js'

export class Pager {
  readonly element: HTMLElement
  readonly #field: HTMLInputElement
  readonly #of = element('span')
  readonly #previous: HTMLButtonElement
  readonly #next: HTMLButtonElement
  #page = 0
  #pages = 1

  /** `onTurn` is told the new page, from 0. */
  constructor(label: string, onTurn: (page: number) => void) {
    const turn = (page: number) => {
      this.show(page, this.#pages)
      onTurn(this.#page)
    }
    const button = (text: string, step: number) => {
      const made = element('button', { type: 'button' }, text)
      made.addEventListener('click', () => turn(this.#page + step))
      return made
    }
    this.#previous = button('Previous', -1)
    this.#next = button('Next', 1)
    this.#field = element('input', { type: 'number', min: '1', step: '1' })
    this.#field.addEventListener('change', () => turn(Math.round(this.#field.valueAsNumber) - 1))
    const field = element('label', { class: 'row' }, 'Page ', this.#field, this.#of)
    const attributes = { class: 'row pager', role: 'group', 'aria-label': label }
    this.element = element('div', attributes, this.#previous, field, this.#next)
  }

  /** Shows that this page of so many is open; a page that there is not becomes the nearest. */
  show(page: number, pages: number): void {
    this.#pages = Math.max(pages, 1)
    this.#page = Math.min(Math.max(Number.isFinite(page) ? page : this.#page, 0), this.#pages - 1)
    this.#field.value = String(this.#page + 1)
    this.#field.max = String(this.#pages)
    this.#of.textContent = `of ${count(this.#pages)}`
    this.#previous.disabled = this.#page === 0
    this.#next.disabled = this.#page === this.#pages - 1
    this.element.hidden = this.#pages === 1
  }
}
