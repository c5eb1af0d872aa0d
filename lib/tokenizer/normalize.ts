/**
 * The normalizer and the pre-tokenizer of a tokenizer.json, run by @huggingface/tokenizers in
 * pieces of a text, so that no step takes long. A piece may end inside of a character. This file
 * decides where a text may be cut: the results, joined, are those of the whole text.
 */

import type { StepJson } from './json-form.js'
import {
  type LibraryNormalizer,
  type LibraryPreTokenizer,
  libraryNormalizer,
  libraryPreTokenizer,
} from './library.js'
import { NFC_SHRINKING, nfc } from './nfc.js'
import type { Steps } from './steps.js'

type Chunks = Iterable<string>

/** In UTF-16 units. */
const CHUNK = 4096

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

/** A normalizer's steps are `NFC`, `Prepend` and `Replace`, as checkTokenizerJson has it. */
export class Normalizer {
  /** The most UTF-16 units of a text that become one; Infinity without a bound. */
  readonly shrinking: number
  readonly #steps: readonly ((chunks: Chunks) => Chunks)[]

  constructor(steps: readonly StepJson[]) {
    this.shrinking = steps.reduce((product, step) => product * shrinking(step), 1)
    this.#steps = steps.map(step => {
      const normalizer = libraryNormalizer(step)
      if (step.type === 'NFC') return chunks => nfc(chunks, normalizer)
      return step.type === 'Prepend'
        ? chunks => prepend(chunks, normalizer)
        : chunks => replace(chunks, normalizer, patternOf(step))
    })
  }

  normalize(chunks: Chunks): Chunks {
    return this.#steps.reduce((before, step) => step(before), chunks)
  }
}

function shrinking(step: StepJson): number {
  if (step.type === 'NFC') return NFC_SHRINKING
  if (step.type === 'Prepend') return 1
  const keepsLength = (step.content as string).length >= patternOf(step).length
  return keepsLength ? 1 : Number.POSITIVE_INFINITY
}

function patternOf(step: StepJson): string {
  return (step.pattern as { String: string }).String
}

/** Only the begin changes. */
function* prepend(chunks: Chunks, normalizer: LibraryNormalizer): Generator<string> {
  yield normalizer.normalize('')
  yield* chunks
}

/** A match may begin at the end of a piece: less than a match waits for the next piece. */
function* replace(
  chunks: Chunks,
  normalizer: LibraryNormalizer,
  pattern: string,
): Generator<string> {
  let rest = ''
  for (const chunk of chunks) {
    const text = rest + chunk
    const afterLastMatch = text.length - text.split(pattern).at(-1)!.length
    const end = Math.max(afterLastMatch, text.length - (pattern.length - 1))
    rest = text.slice(end)
    yield normalizer.normalize(text.slice(0, end))
  }
  yield normalizer.normalize(rest)
}

/** A function that pre-tokenizes a part of a text by `Metaspace`, into one pre-token. */
export function metaspace(step: StepJson): (chunks: Chunks, section: number) => Chunks {
  const atBegin = libraryPreTokenizer(step)
  // The prefix stands at a part's begin alone.
  const inside = libraryPreTokenizer({ ...step, prepend_scheme: 'never' })
  return (chunks, section) => preTokenize(chunks, section, atBegin, inside)
}

function* preTokenize(
  chunks: Chunks,
  section_index: number,
  atBegin: LibraryPreTokenizer,
  inside: LibraryPreTokenizer,
): Generator<string> {
  let preTokenizer = atBegin
  for (const chunk of chunks) {
    if (chunk === '') continue
    yield* preTokenizer.pre_tokenize(chunk, { section_index })
    preTokenizer = inside
  }
}
