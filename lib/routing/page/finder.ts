/** The field that searches a text. */
import { element } from '../../page/dom.js'
import { count } from './format.js'
import type { Match, TextIndex } from './search.js'

/** Milliseconds after the last key until it searches. */
const PAUSE_MS = 200

interface FinderParts {
  readonly index: () => TextIndex
  /** Is told all matches, and the number of the one to show. */
  readonly onFound: (matches: readonly Match[], current: number) => void
  /** The first token that is seen: a search begins there. */
  readonly from: () => number
}

export class Finder {
  readonly element: HTMLElement
  readonly #parts: FinderParts
  readonly #field = element('input', { type: 'search', autocomplete: 'off', spellcheck: 'false' })
  readonly #state = element('span', { class: 'hint', role: 'status' })
  #matches: readonly Match[] = []
  #current = 0
  #sought = ''
  #pause: ReturnType<typeof setTimeout> | undefined

  constructor(parts: FinderParts) {
    this.#parts = parts
    const button = (text: string, step: number) => {
      const made = element('button', { type: 'button' }, text)
      made.addEventListener('click', () => this.#step(step))
      return made
    }
    this.#field.addEventListener('input', () => {
      clearTimeout(this.#pause)
      this.#pause = setTimeout(() => this.#search(), PAUSE_MS)
    })
    this.#field.addEventListener('keydown', event => {
      if (event.key === 'Enter') this.#step(event.shiftKey ? -1 : 1)
    })
    this.element = element(
      'div',
      { class: 'row finder', role: 'group', 'aria-label': 'Search in the text' },
      element('label', { class: 'row' }, 'Search ', this.#field),
      button('Previous match', -1),
      button('Next match', 1),
      this.#state,
    )
  }

  #search(): void {
    clearTimeout(this.#pause)
    this.#sought = this.#field.value
    this.#matches = this.#parts.index().find(this.#sought)
    const from = this.#parts.from()
    this.#current = Math.max(
      this.#matches.findIndex(match => match.from >= from),
      0,
    )
    this.#tell()
  }

  #step(step: number): void {
    const { length } = this.#matches
    if (this.#sought !== this.#field.value) this.#search()
    else if (length > 0) {
      this.#current = (this.#current + step + length) % length
      this.#tell()
    }
  }

  #tell(): void {
    const { length } = this.#matches
    this.#state.textContent =
      this.#sought === ''
        ? ''
        : length === 0
          ? 'not found'
          : `${count(this.#current + 1)} of ${count(length)}`
    this.#parts.onFound(this.#matches, this.#current)
  }
}
