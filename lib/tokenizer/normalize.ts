/**
 * What a tokenizer.json does to a text before byte-pair encoding. Texts go through in pieces, so
 * that no step takes long; a piece may end inside of a character.
 */

import type { Steps } from './steps.js'
import type { StepJson } from './tokenizer-json.js'

type Chunks = Iterable<string>

/** In UTF-16 units. */
const CHUNK = 4096

export const SPACE_MARK = '\u2581'

/** The text in pieces. Half of a surrogate pair, which no encoding can hold, is U+FFFD. */
export function* wellFormedChunks(text: string): Generator<string> {
  for (let start = 0; start < text.length; ) {
    let end = start + CHUNK
    // A pair stays whole.
    if (text.codePointAt(end - 1)! > 0xffff) end++
    yield text.slice(start, end).toWellFormed()
    start = end
  }
}

export function* joined(chunks: Chunks): Steps<string> {
  const all: string[] = []
  for (const chunk of chunks) {
    yield
    all.push(chunk)
  }
  return all.join('')
}

/** The steps are `Prepend` and `Replace`, as checkTokenizerJson has it. */
export function normalize(chunks: Chunks, steps: readonly StepJson[]): Chunks {
  return steps.reduce(
    (before, step) =>
      step.type === 'Prepend'
        ? prepend(before, step.prepend as string)
        : replace(before, (step.pattern as { String: string }).String, step.content as string),
    chunks,
  )
}

/** Whether no text gets shorter. */
export function keepsLength(steps: readonly StepJson[]): boolean {
  return steps.every(
    ({ type, pattern, content }) =>
      type === 'Prepend' ||
      (content as string).length >= (pattern as { String: string }).String.length,
  )
}

function* prepend(chunks: Chunks, prefix: string): Generator<string> {
  yield prefix
  yield* chunks
}

function* replace(chunks: Chunks, pattern: string, content: string): Generator<string> {
  let rest = ''
  for (const chunk of chunks) {
    const parts = (rest + chunk).split(pattern)
    // A match may begin at the end of this piece.
    const last = parts.pop()!
    const certain = Math.max(0, last.length - (pattern.length - 1))
    rest = last.slice(certain)
    parts.push(last.slice(0, certain))
    yield parts.join(content)
  }
  yield rest
}

/** The pre-tokenizer Metaspace. `addsPrefix`: one mark in front of a text that has none there. */
export function* markSpaces(chunks: Chunks, addsPrefix: boolean): Generator<string> {
  let isStart = true
  for (const chunk of chunks) {
    if (chunk === '') continue
    const marked = chunk.replaceAll(' ', SPACE_MARK)
    if (isStart && addsPrefix && !marked.startsWith(SPACE_MARK)) yield SPACE_MARK
    isStart = false
    yield marked
  }
}
