/** FFN experts by the token of the vocabulary, and by the place in a word. */
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import { intervalOfSums } from './intervals.js'
import { PlaceReader, WORD_PLACES } from './places.js'
import type { MeanInterval, Subject, VocabularyEntry } from './types.js'

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Counts and sums by a small integer. The sums are of integers, so they are exact. */
class Sums {
  readonly #counts: Float64Array
  readonly #sums: Float64Array
  readonly #squares: Float64Array

  constructor(size: number) {
    this.#counts = new Float64Array(size)
    this.#sums = new Float64Array(size)
    this.#squares = new Float64Array(size)
  }

  add(at: number, value: number): void {
    this.#counts[at]!++
    this.#sums[at]! += value
    this.#squares[at]! += value * value
  }

  /** Of those that have come: their number, and the mean by `scale`. */
  intervals(scale: number): [at: number, MeanInterval][] {
    const found: [number, MeanInterval][] = []
    for (const [at, count] of this.#counts.entries()) {
      if (count === 0) continue
      found.push([at, intervalOfSums(count, this.#sums[at]!, this.#squares[at]!, scale)])
    }
    return found
  }
}

/** Takes the tokens of a text in order, each with its FFN experts of all layers together. */
export class TokenSums {
  readonly #tokenizer: Tokenizer
  readonly #layers: number
  readonly #all = new Sums(1)
  readonly #byToken: Sums
  readonly #byPlace = new Sums(WORD_PLACES.length)
  readonly #places: PlaceReader

  constructor(tokenizer: Tokenizer, vocabSize: number, layers: number) {
    this.#tokenizer = tokenizer
    this.#layers = layers
    this.#byToken = new Sums(vocabSize)
    this.#places = new PlaceReader(tokenizer.pieces, (place, value) =>
      this.#byPlace.add(place, value),
    )
  }

  add(id: number, text: string, ffnExperts: number): void {
    this.#all.add(0, ffnExperts)
    this.#byToken.add(id, ffnExperts)
    this.#places.push(id, text, ffnExperts)
  }

  /** At the end of the text. */
  result(): Pick<Subject, 'ffnExperts' | 'vocabulary' | 'places'> {
    this.#places.end()
    const vocabulary = this.#byToken
      .intervals(this.#layers)
      .map(([token, ffnExperts]) => ({
        token,
        text: tokenText(this.#tokenizer, token),
        ffnExperts,
      }))
      .sort(byFallingCost)
    const places = this.#byPlace
      .intervals(this.#layers)
      .map(([at, ffnExperts]) => ({ place: WORD_PLACES[at]!, ffnExperts }))
    return { ffnExperts: this.#all.intervals(this.#layers)[0]![1], vocabulary, places }
  }
}

/** Of equal cost the more frequent first, then the lower id. */
function byFallingCost(a: VocabularyEntry, b: VocabularyEntry): number {
  return (
    b.ffnExperts.mean - a.ffnExperts.mean ||
    b.ffnExperts.count - a.ffnExperts.count ||
    a.token - b.token
  )
}

/** A token that is no text by itself has the names of its bytes: `<0xE2><0x82>`. */
function tokenText({ pieces }: Tokenizer, id: number): string {
  const bytes = pieces.bytes.get(id)
  if (!bytes) return pieces.texts[id] ?? ''
  try {
    return UTF8.decode(bytes)
  } catch {
    return [...bytes]
      .map(byte => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)
      .join('')
  }
}
