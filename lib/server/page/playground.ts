/** Questions and answers: sends, stops, goes on. */

import { element } from '../../page/dom.js'
import { Answer, questionView, type TokenParts } from './answer.js'
import type { Usage } from './chunks.js'
import { KeyNeeded, stream } from './client.js'
import { Meter } from './meter.js'
import { type Body, chatBody, completionBody, type Message, type Settings } from './requests.js'

interface Exchange {
  readonly isChat: boolean
  readonly prompt: string
  answer: Answer
}

/** The page as a playground sees it. */
export interface Surroundings {
  /** The element of all turns. */
  readonly turns: HTMLElement
  readonly tokens: TokenParts
  readonly model: () => string
  readonly settings: () => Settings | undefined
  /** An answer begins or has ended. `status` is a sentence for all to hear. */
  readonly onChange: (isRunning: boolean, status: string) => void
  readonly onKeyNeeded: () => void
}

export class Playground {
  readonly #page: Surroundings
  readonly #exchanges: Exchange[] = []
  readonly #actions = element('div', { class: 'actions' })
  readonly #onward = this.#button('Continue', () => this.#continue())
  readonly #again = this.#button('Regenerate', () => this.#regenerate())
  #running: AbortController | undefined

  constructor(page: Surroundings) {
    this.#page = page
    this.#actions.append(this.#onward, this.#again)
  }

  get isRunning(): boolean {
    return this.#running !== undefined
  }

  /** @returns false if a setting is wrong or an answer is coming; nothing is sent then */
  send(prompt: string, isChat: boolean): boolean {
    if (this.#running) return false
    const settings = this.#page.settings()
    if (settings === undefined) return false
    const exchange = { isChat, prompt, answer: new Answer(this.#page.tokens) }
    this.#exchanges.push(exchange)
    this.#page.turns.append(questionView(prompt, isChat), exchange.answer.element)
    this.#run(exchange, settings)
    return true
  }

  stop(): void {
    this.#running?.abort()
  }

  /** Tokens are to be coloured by something else. */
  recolour(): void {
    for (const { answer } of this.#exchanges) answer.recolour()
  }

  clear(): void {
    this.stop()
    this.#exchanges.length = 0
    this.#page.turns.replaceChildren()
  }

  #button(text: string, onClick: () => void): HTMLButtonElement {
    const button = element('button', { type: 'button' }, text)
    button.addEventListener('click', onClick)
    return button
  }

  /** A completion goes on where it ended. A chat's next turn asks the model to. */
  #continue(): void {
    const last = this.#exchanges.at(-1)
    const settings = this.#page.settings()
    if (last === undefined || settings === undefined) return
    if (last.isChat) this.send('Continue.', true)
    else this.#run(last, settings)
  }

  #regenerate(): void {
    const last = this.#exchanges.at(-1)
    const settings = this.#page.settings()
    if (last === undefined || settings === undefined) return
    const answer = new Answer(this.#page.tokens)
    last.answer.element.replaceWith(answer.element)
    last.answer = answer
    this.#run(last, settings)
  }

  async #run(exchange: Exchange, settings: Settings): Promise<void> {
    const running = new AbortController()
    this.#running = running
    this.#actions.remove()
    const { answer, isChat } = exchange
    answer.begin()
    this.#page.onChange(true, 'The model is writing.')
    const meter = new Meter()
    let usage: Usage | undefined
    let failure: string | undefined
    try {
      const path = isChat ? 'v1/chat/completions' : 'v1/completions'
      for await (const delta of stream(path, this.#body(exchange, settings), running.signal)) {
        answer.add(delta)
        if (delta.text || delta.thought || delta.calls.length > 0) meter.part(delta.scores.length)
        usage = delta.usage ?? usage
      }
    } catch (error) {
      if (error instanceof KeyNeeded) this.#page.onKeyNeeded()
      if (running.signal.aborted) answer.finish = 'stopped'
      else failure = error instanceof Error ? error.message : String(error)
    }
    answer.end(meter.summary(usage, answer.finish), failure)
    this.#running = undefined
    const isCleared = !answer.element.isConnected
    if (!isCleared) this.#offerMore(exchange, failure !== undefined)
    const end = answer.finish === 'stopped' ? 'Stopped.' : 'Done.'
    this.#page.onChange(false, isCleared ? 'The conversation is cleared.' : (failure ?? end))
  }

  #offerMore({ answer, isChat }: Exchange, hasFailed: boolean): void {
    this.#again.textContent = hasFailed ? 'Try again' : 'Regenerate'
    this.#onward.hidden = answer.text === '' || (isChat && answer.finish === 'stop')
    this.#page.turns.append(this.#actions)
  }

  #body({ isChat, prompt, answer }: Exchange, settings: Settings): Body {
    const model = this.#page.model()
    return isChat
      ? chatBody(model, this.#messages(), settings)
      : completionBody(model, prompt + answer.text, settings)
  }

  /** Questions without an answer are left out, but for the last one, which is being answered. */
  #messages(): Message[] {
    const chats = this.#exchanges.filter(({ isChat }) => isChat)
    return chats.flatMap(({ prompt, answer }, i): Message[] => {
      const question: Message = { role: 'user', content: prompt }
      if (i === chats.length - 1) return [question]
      return answer.text === '' ? [] : [question, { role: 'assistant', content: answer.text }]
    })
  }
}
