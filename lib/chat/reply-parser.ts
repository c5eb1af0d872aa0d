/**
 * Takes an assistant's text apart as it arrives: thoughts, content, calls of tools. The chunks may
 * be cut anywhere. Text that may begin a mark is held back.
 */
import type { ToolCall } from '../template/messages.js'
import type { ChatFormat } from './chat-format.js'
import { parseToolCall } from './tool-call.js'

/** New parts of a reply; those that are empty are absent. */
export interface ReplyParts {
  readonly reasoning?: string
  readonly content?: string
  readonly toolCalls?: readonly ToolCall[]
}

export interface ReplyParserOptions {
  readonly format: Pick<ChatFormat, 'reasoning' | 'toolCall'>
  /** True if the prompt has opened the thoughts. */
  readonly startsInReasoning: boolean
  /** True if calls of tools are expected; else their marks are content. */
  readonly hasTools: boolean
}

type Part = 'start' | 'reasoning' | 'content' | 'toolCall'

interface Mark {
  readonly text: string
  /** The part that it begins. */
  readonly part: Part
}

export class ReplyParser {
  readonly #format: ReplyParserOptions['format']
  readonly #hasTools: boolean
  #part: Part
  /** Text that may begin a mark. */
  #held = ''
  /** Text of a call that is not complete. */
  #call = ''
  /** Line breaks at the end of a part, which belong to it only if more of it comes. */
  #breaks = ''
  /** True until the part has text: line breaks after a mark belong to the mark. */
  #isFresh: boolean
  #reasoning = ''
  #content = ''
  #toolCalls: ToolCall[] = []

  constructor({ format, startsInReasoning, hasTools }: ReplyParserOptions) {
    this.#format = format
    this.#hasTools = hasTools
    this.#part = startsInReasoning ? 'reasoning' : 'start'
    this.#isFresh = startsInReasoning
  }

  push(text: string): ReplyParts {
    this.#held += text
    while (this.#advance());
    return this.#take()
  }

  /** The rest; no more text comes. A call without its end is invalid, and keeps its text. */
  end(): ReplyParts {
    this.#give(this.#held)
    this.#held = ''
    if (this.#part === 'toolCall') this.#toolCalls.push(parseToolCall(this.#call, 'it has no end'))
    if (this.#part === 'start' || this.#part === 'content') this.#content += this.#breaks
    return this.#take()
  }

  /** Works off the held text up to the next mark; false if it holds none. */
  #advance(): boolean {
    const marks = this.#marks()
    const next = firstOf(marks, this.#held)
    if (!next) {
      const certain = this.#held.length - possibleBegin(this.#held, marks)
      const text = this.#held.slice(0, certain)
      if (this.#isBlankStart(text)) return false
      this.#give(text)
      this.#held = this.#held.slice(certain)
      return false
    }
    const before = this.#held.slice(0, next.at)
    if (next.part === 'reasoning' && before.trim() !== '') {
      // Thoughts come first or not at all: this is content, which has no such mark.
      this.#give(before)
      this.#held = this.#held.slice(next.at)
      return true
    }
    if (!this.#isBlankStart(before)) this.#give(before)
    if (this.#part === 'toolCall') this.#toolCalls.push(parseToolCall(this.#call))
    this.#held = this.#held.slice(next.at + next.text.length)
    this.#part = next.part
    this.#call = ''
    this.#breaks = ''
    this.#isFresh = true
    return true
  }

  /** White space before thoughts or a call belongs to neither. */
  #isBlankStart(text: string): boolean {
    return this.#part === 'start' && text.trim() === ''
  }

  /** Marks that end the present part, and what they begin. */
  #marks(): Mark[] {
    const { reasoning, toolCall } = this.#format
    if (this.#part === 'reasoning') return [{ text: reasoning!.close, part: 'content' }]
    if (this.#part === 'toolCall') return [{ text: toolCall!.close, part: 'content' }]
    return [
      ...(this.#part === 'start' && reasoning
        ? [{ text: reasoning.open, part: 'reasoning' as const }]
        : []),
      ...(this.#hasTools && toolCall ? [{ text: toolCall.open, part: 'toolCall' as const }] : []),
    ]
  }

  /** Adds text to the present part. */
  #give(text: string): void {
    if (this.#part === 'toolCall') {
      this.#call += text
      return
    }
    const found = this.#isFresh ? text.replace(/^\n+/, '') : text
    if (found === '') return
    this.#isFresh = false
    if (this.#part === 'start' && found.trim() !== '') this.#part = 'content'
    const whole = this.#breaks + found
    const [breaks] = /\n*$/.exec(whole)!
    this.#breaks = breaks
    const certain = whole.slice(0, whole.length - breaks.length)
    if (this.#part === 'reasoning') this.#reasoning += certain
    else this.#content += certain
  }

  #take(): ReplyParts {
    const [reasoning, content, toolCalls] = [this.#reasoning, this.#content, this.#toolCalls]
    this.#reasoning = ''
    this.#content = ''
    this.#toolCalls = []
    return {
      ...(reasoning !== '' && { reasoning }),
      ...(content !== '' && { content }),
      ...(toolCalls.length > 0 && { toolCalls }),
    }
  }
}

/** The mark that stands first in `text`. */
function firstOf(marks: readonly Mark[], text: string) {
  return marks
    .map(mark => ({ ...mark, at: text.indexOf(mark.text) }))
    .filter(({ at }) => at >= 0)
    .sort((a, b) => a.at - b.at)[0]
}

/** Length of the longest end of `text` that a mark begins with. */
function possibleBegin(text: string, marks: readonly Mark[]): number {
  const most = Math.min(text.length, Math.max(0, ...marks.map(mark => mark.text.length - 1)))
  for (let length = most; length > 0; length--) {
    const end = text.slice(-length)
    if (marks.some(mark => mark.text.startsWith(end))) return length
  }
  return 0
}
