/**
 * Takes an assistant's text apart as it arrives: thoughts, content, calls of tools. The chunks may
 * be cut anywhere. Text that may begin a mark is held back.
 */
import type { ToolCall } from '../template/messages.js'
import type { ChatFormat } from './chat-format.js'
import type { ReasoningStart } from './chat-prompt.js'
import { parseToolCall } from './tool-call.js'

/** New parts of a reply; those that are empty are absent. */
export interface ReplyParts {
  readonly reasoning?: string
  readonly content?: string
  readonly toolCalls?: readonly ToolCall[]
}

export interface ReplyParserOptions {
  readonly format: Pick<ChatFormat, 'reasoning' | 'toolCall'>
  readonly reasoning: ReasoningStart
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
  readonly #mayThink: boolean
  #part: Part
  /** Text that may begin a mark. */
  #held = ''
  /** Text of a call that is not complete, and whether a string of its JSON is open. */
  #call = ''
  #string = new JsonString()
  /** White space before the first part. */
  #blank = ''
  /** Line breaks at the end of a part, which belong to it only if more of it comes. */
  #breaks = ''
  /** True until the part has text: line breaks after a mark belong to the mark. */
  #isFresh: boolean
  #reasoning = ''
  #content = ''
  #toolCalls: ToolCall[] = []

  constructor({ format, reasoning, hasTools }: ReplyParserOptions) {
    this.#format = format
    this.#hasTools = hasTools
    this.#part = reasoning === 'open' ? 'reasoning' : 'start'
    this.#mayThink = reasoning === 'free'
    this.#isFresh = reasoning === 'open'
  }

  push(text: string): ReplyParts {
    this.#held += text
    while (this.#advance());
    return this.#take()
  }

  /** The rest; no more text comes. A call without its end is invalid, and keeps its text. */
  end(): ReplyParts {
    while (this.#part === 'toolCall' && this.#call.includes(this.#format.toolCall!.close)) {
      // Its mark stood in a string that has no end: then the mark ends the call.
      this.#held = this.#call + this.#held
      this.#call = ''
      this.#string = new JsonString(false)
      while (this.#advance());
    }
    this.#give(this.#held)
    this.#held = ''
    if (this.#part === 'toolCall') this.#toolCalls.push(parseToolCall(this.#call, 'it has no end'))
    if (this.#part === 'start') this.#content += this.#blank
    if (this.#part === 'content') this.#content += this.#breaks
    return this.#take()
  }

  /** Works off the held text up to the next mark; false if it holds none. */
  #advance(): boolean {
    const marks = this.#marks()
    const next = firstOf(marks, this.#held)
    if (!next) {
      const certain = this.#held.length - possibleBegin(this.#held, marks)
      this.#give(this.#held.slice(0, certain))
      this.#held = this.#held.slice(certain)
      return false
    }
    const wasStart = this.#part === 'start'
    this.#give(this.#held.slice(0, next.at))
    if (wasStart && next.part === 'reasoning' && this.#part === 'content') {
      // Thoughts come first or not at all: content has no such mark.
      this.#held = this.#held.slice(next.at)
      return true
    }
    this.#held = this.#held.slice(next.at + next.text.length)
    if (this.#part === 'toolCall' && this.#string.isOpen) {
      this.#give(next.text)
      return true
    }
    if (this.#part === 'toolCall') this.#toolCalls.push(parseToolCall(this.#call))
    this.#part = next.part
    this.#call = ''
    this.#string = new JsonString()
    this.#blank = ''
    this.#breaks = ''
    this.#isFresh = true
    return true
  }

  /** Marks that end the present part, and what they begin. */
  #marks(): Mark[] {
    const { reasoning, toolCall } = this.#format
    if (this.#part === 'reasoning') return [{ text: reasoning!.close, part: 'content' }]
    if (this.#part === 'toolCall') return [{ text: toolCall!.close, part: 'content' }]
    return [
      ...(this.#part === 'start' && this.#mayThink && reasoning
        ? [{ text: reasoning.open, part: 'reasoning' as const }]
        : []),
      ...(this.#hasTools && toolCall ? [{ text: toolCall.open, part: 'toolCall' as const }] : []),
    ]
  }

  /** Adds text to the present part. */
  #give(text: string): void {
    if (this.#part === 'toolCall') {
      this.#call += text
      this.#string.read(text)
      return
    }
    if (this.#part === 'start') {
      // White space before thoughts or a call belongs to neither.
      this.#blank += text
      if (text.trim() === '') return
      this.#part = 'content'
      this.#add(this.#blank)
      return
    }
    const found = this.#isFresh ? text.replace(/^\n+/, '') : text
    if (found === '') return
    this.#isFresh = false
    this.#add(found)
  }

  /** Line breaks at the end wait for what follows. */
  #add(text: string): void {
    let end = text.length
    while (text[end - 1] === '\n') end--
    if (end === 0) {
      this.#breaks += text
      return
    }
    const certain = this.#breaks + text.slice(0, end)
    this.#breaks = text.slice(end)
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

/** Tells if a string of some JSON is open, which arrives in pieces. */
class JsonString {
  isOpen = false
  readonly #looks: boolean
  #isEscaped = false

  /** `looks` false: no string is ever open. */
  constructor(looks = true) {
    this.#looks = looks
  }

  read(text: string): void {
    if (!this.#looks) return
    for (const unit of text) {
      if (this.#isEscaped) this.#isEscaped = false
      else if (unit === '\\' && this.isOpen) this.#isEscaped = true
      else if (unit === '"') this.isOpen = !this.isOpen
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
