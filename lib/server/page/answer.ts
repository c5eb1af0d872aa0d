/** A question, and the answer to it that grows on the page. */

import { element } from '../../page/dom.js'
import { type ShowDetails, TokenView } from '../../page/token-view.js'
import type { CallPart, Delta } from './chunks.js'
import { type Piece, Pieces, probabilityOf } from './pieces.js'

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

/** An answer: thoughts, text, calls of tools, a summary or an error. */
export class Answer {
  readonly element = element('section', { class: 'turn' })
  /** The text without thoughts and calls. */
  text = ''
  /** The reason that it ended for, in the server's word; undefined before that. */
  finish: string | undefined
  readonly #showDetails: ShowDetails<Piece>
  readonly #calls = new Map<number, CallView>()
  readonly #pieces = new Pieces()
  readonly #summary = element('p', { class: 'summary' })
  #text: TokenView<Piece>
  #thoughts: TokenView<Piece> | undefined

  constructor(showDetails: ShowDetails<Piece>) {
    this.#showDetails = showDetails
    this.#text = this.#tokenView()
    this.element.append(element('h3', {}, 'Model'), this.#text.element)
  }

  add({ text, thought, calls, scores, finish }: Delta): void {
    if (calls.length > 0) this.#pieces.skip()
    if (thought !== '') this.#thoughtView().append(this.#pieces.add(thought, text ? [] : scores))
    if (text !== '' || (thought === '' && calls.length === 0))
      this.#text.append(this.#pieces.add(text, scores))
    this.text += text
    for (const call of calls) this.#callView(call.index).add(call)
    this.finish = finish ?? this.finish
  }

  /** While an answer runs, it shows a caret. */
  begin(): void {
    this.finish = undefined
    this.#pieces.skip()
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

  #tokenView(): TokenView<Piece> {
    return new TokenView({
      isToken: ({ scores }: Piece) => scores.length > 0,
      shade: probabilityOf,
      showDetails: this.#showDetails,
    })
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
