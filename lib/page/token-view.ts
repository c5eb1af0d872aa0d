/** Pieces of text as elements: coloured, reached by pointer and keys. */
import { element } from './dom.js'

/** The value that a piece is coloured by, from 0 to 1: 0 has most colour. */
export type Shade<Piece> = (piece: Piece) => number | undefined

/** Shows the details of a piece beside its element, shows them anew if it does, or hides them. */
export type ShowDetails<Piece> = (shown?: {
  readonly at: HTMLElement
  readonly piece: Piece
  /** True: the piece has changed. Nothing is shown that is not. Default false. */
  readonly hasChanged?: boolean
}) => void

export interface TokenViewParts<Piece> {
  /** False: its text is no token's, and neither pointer nor keys reach it. */
  readonly isToken: (piece: Piece) => boolean
  readonly shade: Shade<Piece>
  readonly showDetails: ShowDetails<Piece>
}

const KEYS: Readonly<Record<string, (at: number, last: number) => number>> = {
  ArrowLeft: at => at - 1,
  ArrowRight: at => at + 1,
  Home: () => 0,
  End: (_, last) => last,
}

/** An element that pieces are appended to. Tab reaches one token of it; arrow keys lead on. */
export class TokenView<Piece extends { readonly text: string }> {
  readonly element = element('div', { class: 'said' })
  readonly #tokens: HTMLElement[] = []
  readonly #pieces = new Map<Element, Piece>()
  readonly #elements = new Map<Piece, HTMLElement>()
  readonly #parts: TokenViewParts<Piece>
  #current = 0

  constructor(parts: TokenViewParts<Piece>) {
    this.#parts = parts
    const { showDetails } = parts
    const show = ({ target }: Event) => {
      const piece = this.#pieces.get(target as Element)
      if (piece !== undefined) showDetails({ at: target as HTMLElement, piece })
    }
    let under: EventTarget | null = null
    // The pointer has moved, not the text beneath it.
    this.element.addEventListener('pointermove', event => {
      if (event.target !== under) show(event)
      under = event.target
    })
    this.element.addEventListener('focusin', event => {
      this.#rove(event.target as HTMLElement)
      show(event)
    })
    this.element.addEventListener('focusout', () => showDetails())
    this.element.addEventListener('pointerout', () => {
      under = null
      showDetails()
    })
    this.element.addEventListener('click', ({ target }) => {
      // Text that was selected stays so.
      if (getSelection()?.isCollapsed !== false) this.#focus(target as HTMLElement)
    })
    this.element.addEventListener('keydown', event => this.#onKey(event))
  }

  /** The elements of its tokens, in order. */
  get tokens(): readonly HTMLElement[] {
    return this.#tokens
  }

  append(pieces: readonly Piece[]): void {
    for (const piece of pieces) {
      if (!this.#parts.isToken(piece)) {
        this.element.append(piece.text)
        continue
      }
      const made = this.#tokenOf(piece)
      this.element.append(made)
      if (this.#tokens.length === 0) made.tabIndex = 0
      this.#tokens.push(made)
      this.#pieces.set(made, piece)
      this.#elements.set(piece, made)
    }
  }

  /** Colours pieces again that have changed, and shows their details anew. Default: all. */
  recolour(pieces: Iterable<Piece> = this.#elements.keys()): void {
    for (const piece of pieces) {
      const token = this.#elements.get(piece)
      if (token === undefined) continue
      this.#colour(token, piece)
      this.#parts.showDetails({ at: token, piece, hasChanged: true })
    }
  }

  #tokenOf(piece: Piece): HTMLElement {
    const token = element('span', { class: 'token' }, piece.text)
    this.#colour(token, piece)
    return token
  }

  #colour(token: HTMLElement, piece: Piece): void {
    const value = this.#parts.shade(piece)
    if (value === undefined) token.style.removeProperty('--value')
    else token.style.setProperty('--value', value.toFixed(3))
  }

  #onKey(event: KeyboardEvent): void {
    const move = KEYS[event.key]
    if (move === undefined || event.ctrlKey || event.metaKey || event.altKey) return
    const last = this.#tokens.length - 1
    const next = this.#tokens[Math.min(Math.max(move(this.#current, last), 0), last)]
    if (next === undefined) return
    event.preventDefault()
    this.#focus(next)
  }

  #focus(token: HTMLElement): void {
    if (!this.#pieces.has(token)) return
    token.tabIndex = 0
    token.focus()
  }

  /** Tab comes back to the token that had the focus last. */
  #rove(token: HTMLElement): void {
    const at = this.#tokens.indexOf(token)
    if (at < 0 || at === this.#current) return
    this.#tokens[this.#current]?.removeAttribute('tabindex')
    this.#current = at
  }
}
