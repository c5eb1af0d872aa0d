/** Answers on a terminal, as they come: thoughts, text and calls of tools. */

import { printable } from '../base/json.js'
import type { ChatChunk } from '../generation/chat-results.js'
import type { ToolCall } from '../template/messages.js'
import { paint, type Terminal } from './terminal.js'
import { visible } from './visible.js'

export class ChatScreen {
  readonly #terminal: Terminal
  #part: 'none' | 'reasoning' | 'content' = 'none'
  #endsLine = true

  constructor(terminal: Terminal) {
    this.#terminal = terminal
  }

  async show({ reasoning = '', content = '', toolCalls = [] }: ChatChunk): Promise<void> {
    if (reasoning !== '') await this.#add('reasoning', reasoning)
    if (content !== '') await this.#add('content', content)
    for (const call of toolCalls) await this.#call(call)
  }

  /** Ends the last line. */
  async end(): Promise<void> {
    if (!this.#endsLine) await this.#terminal.write('\n')
    this.#endsLine = true
  }

  async #add(part: 'reasoning' | 'content', text: string): Promise<void> {
    if (part !== this.#part) await this.#begin(part)
    const shown = visible(text)
    await this.#terminal.writeRaw(part === 'reasoning' ? this.#paint('dim', shown) : shown)
    if (shown !== '') this.#endsLine = shown.endsWith('\n')
  }

  /** Without colours a line says where thoughts begin and end. */
  async #begin(part: 'reasoning' | 'content'): Promise<void> {
    await this.end()
    const before = this.#part
    this.#part = part
    const { stdoutHasColors } = this.#terminal
    if (part === 'reasoning' && !stdoutHasColors) await this.#terminal.write('[thoughts]\n')
    if (part === 'content' && before === 'reasoning')
      await this.#terminal.write(stdoutHasColors ? '\n' : '[answer]\n')
  }

  async #call({ name, arguments: given, invalid }: ToolCall): Promise<void> {
    await this.end()
    const text = `${name} ${typeof given === 'string' ? given : JSON.stringify(given)}`
    const label = invalid === undefined ? '[call]' : `[invalid call: ${printable(invalid)}]`
    const style = invalid === undefined ? 'cyan' : 'yellow'
    await this.#terminal.writeRaw(
      `${this.#paint(style, visible(label))} ${visible(printable(text))}\n`,
    )
  }

  #paint(style: Parameters<typeof paint>[0], text: string): string {
    return this.#terminal.stdoutHasColors ? paint(style, text) : text
  }
}
