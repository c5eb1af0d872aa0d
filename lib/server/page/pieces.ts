/** Text with the probabilities of its tokens, and their FFN experts. */

/** A token that might have been chosen. */
export interface Choice {
  readonly token: string
  /** Natural logarithm of the probability. */
  readonly logprob: number
}

/** A token that was chosen, with the likeliest ones at its place. */
export interface Score extends Choice {
  readonly top: readonly Choice[]
  /** The mean over layers; undefined until the token is computed, and if it was not asked for. */
  ffnExperts?: number
}

/**
 * Text that is shown as one. It has the scores of its tokens: mostly one, more where a character
 * takes several tokens, and none where the server sent none.
 */
export interface Piece {
  readonly text: string
  readonly scores: readonly Score[]
}

/** The probability of a piece, from 0 to 1. */
export function probabilityOf({ scores }: Piece): number | undefined {
  if (scores.length === 0) return undefined
  return Math.exp(scores.reduce((sum, { logprob }) => sum + logprob, 0))
}

/** The FFN experts of a piece, the mean over its tokens; undefined if none of them has any yet. */
export function ffnExpertsOf({ scores }: Piece): number | undefined {
  const known = scores.flatMap(({ ffnExperts = [] }) => ffnExperts)
  if (known.length === 0) return undefined
  return known.reduce((sum, each) => sum + each, 0) / known.length
}

/**
 * Finds the text of each token of a stream. The pieces together are the text, always; a token whose
 * text has not come yet waits for it.
 */
export class Pieces {
  #waiting: Score[] = []

  /** The pieces of a new part of the text, whose tokens are new as well. */
  add(text: string, scores: readonly Score[]): Piece[] {
    const pieces: Piece[] = []
    let group: Score[] = []
    let at = 0
    const take = (end: number) => {
      if (end > at) pieces.push({ text: text.slice(at, end), scores: group })
      if (end > at) group = []
      at = end
    }
    for (const score of [...this.#waiting, ...scores]) {
      const found = score.token === '' ? -1 : text.indexOf(score.token, at)
      // Text between two tokens is that of the tokens that were not found: parts of characters.
      if (found > at && group.length > 0) take(found)
      // Others that were not found have no text: the end of a turn, say.
      if (found === at) group = []
      group.push(score)
      if (found === at) take(at + score.token.length)
    }
    take(text.length)
    this.#waiting = group
    return pieces
  }

  /** Forgets tokens that have no text: what comes is another's. */
  skip(): void {
    this.#waiting = []
  }
}

/** A token's text with its spaces and line ends to be seen. */
export function visible(token: string): string {
  return token
    .replaceAll(' ', '␣')
    .replaceAll('\n', '⏎')
    .replaceAll('\t', '⇥')
    .replaceAll('\r', '␍')
}

/** A probability in few characters: 97 %, 3.1 %, 0.02 %. */
export function percent(probability: number): string {
  const value = 100 * probability
  if (value > 0 && value < 0.01) return '<0.01 %'
  const digits = value >= 10 || value === 0 ? 0 : value >= 1 ? 1 : 2
  return `${value.toFixed(digits)} %`
}
