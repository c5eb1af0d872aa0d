/** Finds a string in the text of tokens, whatever its case. */

/** The tokens of a place where it was found: `to` is the first one after it. */
export interface Match {
  readonly from: number
  readonly to: number
}

export class TextIndex {
  readonly #text: string
  /** [n + 1] where the text of each token begins. */
  readonly #begins: Uint32Array

  constructor(length: number, textOf: (i: number) => string) {
    const texts = Array.from({ length }, (_, i) => textOf(i))
    this.#begins = new Uint32Array(length + 1)
    for (let i = 0; i < length; i++) this.#begins[i + 1] = this.#begins[i]! + texts[i]!.length
    this.#text = folded(texts.join(''))
  }

  /** Places that do not overlap, in order. */
  find(query: string): Match[] {
    const sought = folded(query)
    if (sought === '') return []
    const matches: Match[] = []
    for (
      let at = this.#text.indexOf(sought);
      at >= 0;
      at = this.#text.indexOf(sought, at + sought.length)
    )
      matches.push({ from: this.#tokenAt(at), to: this.#tokenAt(at + sought.length - 1) + 1 })
    return matches
  }

  /** The token that the character at `place` belongs to: the last that begins there or before. */
  #tokenAt(place: number): number {
    let [low, high] = [0, this.#begins.length - 1]
    while (high - low > 1) {
      const middle = (low + high) >> 1
      if (this.#begins[middle]! <= place) low = middle
      else high = middle
    }
    return low
  }
}

/** In lower case, of the same length. */
function folded(text: string): string {
  const lower = text.toLowerCase()
  if (lower.length === text.length) return lower
  return Array.from(text, character => {
    const small = character.toLowerCase()
    return small.length === character.length ? small : character
  }).join('')
}
