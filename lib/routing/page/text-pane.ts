/** A text, page by page: coloured by FFN experts, or as a table. */
import { element } from '../../page/dom.js'
import { type ShowDetails, TokenView } from '../../page/token-view.js'
import type { SampleText } from './data.js'
import { Finder } from './finder.js'
import { count, decimal, symbols, visible } from './format.js'
import { layerSlider } from './layer-slider.js'
import { Pager } from './pager.js'
import { PathView } from './path-view.js'
import { type Scale, ScaleKey, shadeOf } from './scale.js'
import { type Match, TextIndex } from './search.js'
import { scrollBox } from './table.js'

/** Tokens of a page: of text, and of a table. */
const TEXT_PAGE = 1500
const TABLE_PAGE = 200

interface Piece {
  /** The number of the token. */
  readonly i: number
  readonly text: string
}

export class TextPane {
  readonly element: HTMLElement
  /** Is told the first token of a page that was turned to. */
  onTurn: (first: number) => void = () => {}
  readonly #sample: SampleText
  readonly #path: PathView
  /** Of means over layers. */
  readonly #means: Scale
  readonly #key: ScaleKey
  readonly #pager: Pager
  readonly #page = element('div', { class: 'page is-coloured' })
  #index: TextIndex | undefined
  #layer: number | undefined
  #isTable = false
  #first = 0
  #matches: readonly Match[] = []
  #current = 0
  /** Elements of the page's tokens. */
  #tokens: readonly HTMLElement[] = []

  constructor(sample: SampleText, means: Scale, id: string) {
    this.#sample = sample
    this.#means = means
    this.#key = new ScaleKey(sample.windowStarts.length > 1)
    this.#path = new PathView(sample, `${id}-path`)
    this.#pager = new Pager('Pages of the text', page => {
      this.showFrom(page * this.#size)
      this.onTurn(this.#first)
    })
    this.element = element(
      'div',
      { class: 'pane' },
      this.#controls(),
      this.#key.element,
      element('div', { class: 'reading' }, this.#page, this.#path.element),
    )
    this.element.addEventListener('keydown', ({ key }) => {
      if (key === 'Escape') this.#path.clear()
    })
    this.showFrom(0)
  }

  /** Shows the page of token `first`, without a word to `onTurn`. */
  showFrom(first: number): void {
    const pages = Math.ceil(this.#sample.length / this.#size)
    const page = Math.max(Math.min(Math.floor(first / this.#size), pages - 1), 0)
    this.#first = page * this.#size
    this.#pager.show(page, pages)
    this.#draw()
  }

  get #size(): number {
    return this.#isTable ? TABLE_PAGE : TEXT_PAGE
  }

  #controls(): HTMLElement {
    const table = element('input', { type: 'checkbox' })
    table.addEventListener('change', () => {
      this.#isTable = table.checked
      this.showFrom(this.#first)
    })
    const finder = new Finder({
      index: () => {
        const sample = this.#sample
        this.#index ??= new TextIndex(sample.length, i => sample.text(i))
        return this.#index
      },
      from: () => this.#first,
      onFound: (matches, current) => this.#found(matches, current),
    })
    const slider = layerSlider(this.#sample.layers, at => {
      this.#layer = at
      this.#colour()
    })
    const toggle = element('label', { class: 'row' }, table, 'As a table')
    return element(
      'div',
      { class: 'controls' },
      this.#pager.element,
      slider,
      toggle,
      finder.element,
    )
  }

  #draw(): void {
    const length = Math.min(this.#size, this.#sample.length - this.#first)
    const pieces = Array.from({ length }, (_, at): Piece => {
      const i = this.#first + at
      return { i, text: visible(this.#sample.text(i)) }
    })
    this.#page.replaceChildren(this.#isTable ? this.#table(pieces) : this.#text(pieces))
    this.#colour()
    this.#mark()
  }

  #text(pieces: readonly Piece[]): HTMLElement {
    const showDetails: ShowDetails<Piece> = shown => {
      if (shown === undefined) return
      for (const token of this.#tokens) {
        token.classList.remove('is-shown')
        token.removeAttribute('aria-describedby')
      }
      shown.at.classList.add('is-shown')
      shown.at.setAttribute('aria-describedby', this.#path.id)
      this.#path.show(shown.piece.i)
    }
    // Colours follow: they change with the slider.
    const view = new TokenView<Piece>({ isToken: () => true, shade: () => undefined, showDetails })
    view.append(pieces)
    this.#tokens = view.tokens
    pieces.forEach(({ text }, at) => {
      if (/^\s*\n\s*$/.test(text)) this.#tokens[at]!.classList.add('is-line-end')
    })
    for (const start of this.#sample.windowStarts)
      this.#tokens[start - this.#first]?.classList.add('is-window-start')
    return view.element
  }

  #table(pieces: readonly Piece[]): HTMLElement {
    const sample = this.#sample
    const { layers } = sample
    const names = ['Token', 'Text', 'Mean', ...layers.map(({ layer }) => `L${layer}`)]
    const cells = pieces.map(({ i }) => {
      const show = element('button', { type: 'button', class: 'plain token' })
      show.textContent = symbols(sample.text(i))
      show.addEventListener('click', () => this.#path.show(i))
      return show
    })
    this.#tokens = cells
    const rows = pieces.map(({ i }, at) =>
      element(
        'tr',
        {},
        element('td', {}, count(i)),
        element('th', { scope: 'row' }, cells[at]!),
        element('td', {}, decimal(sample.meanFfnExperts(i))),
        ...layers.map((_, at) => element('td', {}, String(sample.ffnExperts(i, at)))),
      ),
    )
    const head = names.map(name => element('th', { scope: 'col' }, name))
    const table = element('table', { class: 'tokens' })
    table.append(
      element('caption', {}, 'FFN experts of each token: the mean, and each layer’s number'),
      element('thead', {}, element('tr', {}, ...head)),
      element('tbody', {}, ...rows),
    )
    return scrollBox('Tokens as a table', table)
  }

  #colour(): void {
    const sample = this.#sample
    const at = this.#layer
    const layer = at === undefined ? undefined : sample.layers[at]
    const scale = layer === undefined ? this.#means : { least: 0, most: layer.topK }
    this.#tokens.forEach((token, place) => {
      const i = this.#first + place
      const experts = at === undefined ? sample.meanFfnExperts(i) : sample.ffnExperts(i, at)
      token.style.setProperty('--value', shadeOf(scale, experts).toFixed(3))
    })
    this.#key.show(scale, layer?.layer)
  }

  #found(matches: readonly Match[], current: number): void {
    this.#matches = matches
    this.#current = current
    const at = matches[current]?.from
    const isHere = at === undefined || (at >= this.#first && at < this.#first + this.#tokens.length)
    if (isHere) this.#mark()
    else {
      this.showFrom(at)
      this.onTurn(this.#first)
    }
  }

  /** Marks what was found on this page. */
  #mark(): void {
    for (const token of this.#page.querySelectorAll('.is-found'))
      token.classList.remove('is-found', 'is-current')
    const end = this.#first + this.#tokens.length
    this.#matches.forEach(({ from, to }, at) => {
      if (to <= this.#first || from >= end) return
      for (let i = Math.max(from, this.#first); i < Math.min(to, end); i++) {
        const { classList } = this.#tokens[i - this.#first]!
        classList.add('is-found')
        if (at === this.#current) classList.add('is-current')
      }
    })
    this.#page.querySelector('.is-current')?.scrollIntoView({ block: 'nearest' })
  }
}
