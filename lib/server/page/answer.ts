/** A question, and the answer to it that grows on the page. */

import { element } from '../../page/dom.js'
import { type Shade, type ShowDetails, TokenView } from '../../page/token-view.js'
import type { CallPart, Delta } from './chunks.js'
import { Experts } from './experts.js'
import { type Piece, Pieces, type Score } from './pieces.js'

/** A call of a tool, as text that grows. */
class CallView {
  readonly element = element('pre', { class: 'call' })
  #name = ''
  #args = ''

  add({ name, args }: CallPart): void {
    this.#name += name
    this.#args += args
    this.element.textContent = `${this.#name}(${this.#args})`
  }
}

/** The tokens of an answer: their colour, and their details. */
export interface TokenParts {
  readonly shade: Shade<Piece>
  readonly showDetails: ShowDetails<Piece>
}

/** An answer: thoughts, text, calls of tools, a summary or an error. */
export class Answer {
  readonly element = element('section', { class: 'turn' })
  /** The text without thoughts and calls. */
  text = ''
  /** The reason that it ended for, in the server's word; undefined before that. */
  finish: string | undefined
  readonly #parts: TokenParts
  readonly #experts = new Experts()
  /** The place of a token's text. */
  readonly #shown = new Map<Score, { readonly view: TokenView<Piece>; readonly piece: Piece }>()
  readonly #calls = new Map<number, CallView>()
  readonly #pieces = new Pieces()
  readonly #summary = element('p', { class: 'summary' })
  #text: TokenView<Piece>
  #thoughts: TokenView<Piece> | undefined

  constructor(parts: TokenParts) {
    this.#parts = parts
    this.#text = this.#tokenView()
    this.element.append(element('h3', {}, 'Model'), this.#text.element)
  }

  add({ text, thought, calls, scores, routing, finish }: Delta): void {
    const known = this.#experts.add(scores, routing)
    if (calls.length > 0) this.#pieces.skip()
    if (thought !== '') this.#show(this.#thoughtView(), thought, text ? [] : scores)
    if (text !== '' || (thought === '' && calls.length === 0)) this.#show(this.#text, text, scores)
    for (const score of known) this.#recolour(score)
    this.text += text
    for (const call of calls) this.#callView(call.index).add(call)
    this.finish = finish ?? this.finish
  }

  /** While an answer runs, it shows a caret. */
  begin(): void {
    this.finish = undefined
    this.#pieces.skip()
    this.#experts.begin()
    this.element.querySelector('.failure')?.remove()
    this.#summary.remove()
    this.element.classList.add('is-running')
  }

  end(summary: string, error?: string): void {
    this.element.classList.remove('is-running')
    this.#summary.textContent = summary
    if (summary !== '') this.element.append(this.#summary)
    if (error !== undefined) this.element.append(element('p', { class: 'failure' }, error))
  }

  /** Tokens are to be coloured by something else. */
  recolour(): void {
    this.#text.recolour()
    this.#thoughts?.recolour()
  }

  #recolour(score: Score): void {
    const shown = this.#shown.get(score)
    shown?.view.recolour([shown.piece])
  }

  #show(view: TokenView<Piece>, text: string, scores: readonly Score[]): void {
    const pieces = this.#pieces.add(text, scores)
    view.append(pieces)
    for (const piece of pieces)
      for (const score of piece.scores) this.#shown.set(score, { view, piece })
  }

  #tokenView(): TokenView<Piece> {
    return new TokenView({ isToken: ({ scores }: Piece) => scores.length > 0, ...this.#parts })
  }

  #thoughtView(): TokenView<Piece> {
    if (this.#thoughts !== undefined) return this.#thoughts
    const view = this.#tokenView()
    const summary = element('summary', {}, 'Thoughts')
    this.#text.element.before(
      element('details', { class: 'thoughts', open: '' }, summary, view.element),
    )
    this.#thoughts = view
    return view
  }

  #callView(index: number): CallView {
    const known = this.#calls.get(index)
    if (known !== undefined) return known
    const view = new CallView()
    this.#calls.set(index, view)
    this.element.append(view.element)
    return view
  }
}

/** The question's element. */
export function questionView(text: string, isChat: boolean): HTMLElement {
  return element(
    'section',
    { class: 'turn is-question' },
    element('h3', {}, isChat ? 'You' : 'Prompt'),
    element('div', { class: 'said' }, text),
  )
}
