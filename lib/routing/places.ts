/**
 * The places of tokens in words. A word is a run of letters and marks (Unicode's L and M).
 *
 * A token with a letter is `first` if its word goes on in the next token, and `last` if its word
 * began in one before. It is `middle` with both, and `whole` with neither. Without letters, a token
 * with a digit (N) is `number`, one with punctuation or a symbol (P, S) is `punctuation`. All
 * others are `other`: space, and the parts of a character but its last. Such parts do not end a
 * word.
 */
import type { PieceTable } from '../tokenizer/piece-table.js'
import type { WordPlace } from './types.js'

const LETTER = 1
const NUMBER = 2
const PUNCTUATION = 4
const BEGINS = 8
const ENDS = 16
const KNOWN = 32

export const WORD_PLACES = [
  'whole',
  'first',
  'middle',
  'last',
  'number',
  'punctuation',
  'other',
] as const satisfies readonly WordPlace[]

const NUMBER_PLACE = WORD_PLACES.indexOf('number')
const PUNCTUATION_PLACE = WORD_PLACES.indexOf('punctuation')
const OTHER_PLACE = WORD_PLACES.indexOf('other')

/** Tells the place of each token, with a number that came with it, once the next one is known. */
export class PlaceReader {
  readonly #table: PieceTable
  readonly #emit: (place: number, value: number) => void
  /** By id; 0 if it has not come yet. */
  readonly #known: Uint8Array
  #before = 0
  /** Of the token whose place is not known yet; 0 for none. */
  #current = 0
  #value = 0

  /** `emit` gets an index of WORD_PLACES. */
  constructor(table: PieceTable, emit: (place: number, value: number) => void) {
    this.#table = table
    this.#emit = emit
    this.#known = new Uint8Array(table.texts.length)
  }

  /** `text`: the characters that the token completes. Parts of one do not end a word. */
  push(id: number, text: string, value: number): void {
    if (text === '') {
      this.#emit(OTHER_PLACE, value)
      return
    }
    const flags = this.#flags(id, text)
    this.#end(flags)
    this.#before = this.#current
    this.#current = flags
    this.#value = value
  }

  /** The end of the text. */
  end(): void {
    this.#end(0)
    this.#current = 0
  }

  #end(next: number): void {
    if (this.#current !== 0) this.#emit(placeOf(this.#before, this.#current, next), this.#value)
  }

  /** Those of a token that is no text by itself change with the text that it completes. */
  #flags(id: number, text: string): number {
    if (this.#table.bytes.has(id)) return flagsOf(text)
    // The first token of a text may lack its space, so its own text counts.
    this.#known[id] ||= flagsOf(this.#table.texts[id] ?? text)
    return this.#known[id]!
  }
}

function flagsOf(text: string): number {
  return (
    KNOWN |
    (/\p{L}/u.test(text) ? LETTER : 0) |
    (/\p{N}/u.test(text) ? NUMBER : 0) |
    (/[\p{P}\p{S}]/u.test(text) ? PUNCTUATION : 0) |
    (/^[\p{L}\p{M}]/u.test(text) ? BEGINS : 0) |
    (/[\p{L}\p{M}]$/u.test(text) ? ENDS : 0)
  )
}

/** By two bits: the word began before (2), and goes on (1). */
const IN_WORD = ['whole', 'first', 'last', 'middle'].map(place =>
  WORD_PLACES.indexOf(place as WordPlace),
)

function placeOf(before: number, current: number, next: number): number {
  if ((current & LETTER) !== 0) {
    const began = (before & ENDS) !== 0 && (current & BEGINS) !== 0
    const goesOn = (current & ENDS) !== 0 && (next & BEGINS) !== 0
    return IN_WORD[2 * Number(began) + Number(goesOn)]!
  }
  if ((current & NUMBER) !== 0) return NUMBER_PLACE
  return (current & PUNCTUATION) !== 0 ? PUNCTUATION_PLACE : OTHER_PLACE
}
