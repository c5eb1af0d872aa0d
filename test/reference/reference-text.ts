/** The f64 reference's results for a text, and the error of f32 arithmetic on the way. */
import { sortedPicks } from '../support/golden.js'
import { hasTie, likeliest, type Position, type Weights } from './decoder-f64.js'
import { type QuantisedType, quantisedWeights } from './quantised-f64.js'
import { type RandomCheckpoint, storedWeights } from './random-checkpoint.js'

const EPS = 2 ** -23

/**
 * True if f32 arithmetic may round some input of a quantised matrix to another integer. The middle
 * of two integers is then nearer than 4 times the row's largest error and 4 roundings.
 */
function hasRoundingTie({ ratios }: Position, single: Position): boolean {
  return ratios.some((row, i) => {
    const error = distance([single.ratios[i]!], [row]).worst
    return row.some(ratio => {
      const toMiddle = Math.abs(ratio - Math.floor(ratio) - 0.5)
      return toMiddle < 4 * error + 2 * EPS * Math.abs(ratio)
    })
  })
}

export const QUANTITIES = [
  'logits',
  'hidden',
  'finalHidden',
  'moeOutput',
  'routerLogits',
  'weights',
] as const
export type Quantity = (typeof QUANTITIES)[number]
export type Rows = Record<Quantity, readonly ArrayLike<number>[]>

export interface Text {
  readonly prompt: readonly number[]
  /** The number of tokens that are to follow it. */
  readonly steps: number
  /** Those, unless too close experts came first. */
  readonly tokens: readonly number[]
  /** Of the prompt, then of the generated tokens that were fed back. */
  readonly positions: readonly Position[]
  /**
   * Positions before the first whose experts, or the integers of whose inputs, are too close to
   * tell. Only these are compared.
   */
  readonly clear: number
}

/**
 * A model's reference, and how far off f32 arithmetic was in all that has been computed with it.
 */
export class Reference {
  readonly #checkpoint: RandomCheckpoint
  readonly #weights: Weights
  /** The layers that have experts. */
  readonly moeLayers: readonly number[]
  readonly #deviation = new Map<Quantity, number>()
  readonly #magnitude = new Map<Quantity, number>()

  constructor(checkpoint: RandomCheckpoint, dtype?: QuantisedType) {
    this.#checkpoint = checkpoint
    this.#weights = dtype ? quantisedWeights(checkpoint, dtype) : storedWeights(checkpoint)
    this.moeLayers = checkpoint.moeLayers
  }

  tolerance(quantity: Quantity): number {
    return Math.max(
      16 * (this.#deviation.get(quantity) ?? 0),
      8 * EPS * (this.#magnitude.get(quantity) ?? 0),
    )
  }

  /** A prompt and its continuation, which is greedy unless `given`. */
  text(prompt: readonly number[], steps: number, given?: readonly number[]): Text {
    const exact = this.#checkpoint.sequence(this.#weights, 'f64')
    const single = this.#checkpoint.sequence(this.#weights, 'f32')
    const positions = exact.forward(prompt)
    let clear = this.#measure(positions, single.forward(prompt))
    const tokens: number[] = []
    while (clear === positions.length && tokens.length < steps) {
      const token = given ? given[tokens.length]! : likeliest(positions.at(-1)!)
      tokens.push(token)
      if (tokens.length === steps) break
      const next = exact.forward([token])
      clear += this.#measure(next, single.forward([token]))
      positions.push(...next)
    }
    return { prompt, steps, tokens, positions, clear }
  }

  /** Compares the positions before a tie, and returns their number. */
  #measure(exact: readonly Position[], single: readonly Position[]): number {
    const tie = exact.findIndex(
      (position, p) => hasTie(position) || hasRoundingTie(position, single[p]!),
    )
    const clear = tie < 0 ? exact.length : tie
    for (let p = 0; p < clear; p++) {
      const [a, b] = [rowsOf(exact[p]!), rowsOf(single[p]!)]
      for (const q of QUANTITIES) {
        const { worst, magnitude } = distance(b[q], a[q])
        this.#deviation.set(q, Math.max(worst, this.#deviation.get(q) ?? 0))
        this.#magnitude.set(q, Math.max(magnitude, this.#magnitude.get(q) ?? 0))
      }
    }
    return clear
  }
}

export function rowsOf({
  logits,
  hidden,
  finalHidden,
  moeOutput,
  routerLogits,
  picks,
}: Position): Rows {
  const weights = picks.map(
    pick => sortedPicks(pick.experts, pick.weights, pick.experts.length).weights,
  )
  return { logits: [logits], hidden, finalHidden: [finalHidden], moeOutput, routerLogits, weights }
}

export function distance(got: readonly ArrayLike<number>[], want: readonly ArrayLike<number>[]) {
  let worst = 0
  let magnitude = 0
  for (let r = 0; r < want.length; r++) {
    const [a, b] = [got[r]!, want[r]!]
    if (a.length !== b.length) return { worst: Infinity, magnitude }
    for (let i = 0; i < b.length; i++) {
      // A masked expert has no logit to compare.
      if (b[i] === -Infinity) continue
      const off = Math.abs(a[i]! - b[i]!)
      if (!(off <= worst)) worst = Number.isNaN(off) ? Infinity : off
      magnitude = Math.max(magnitude, Math.abs(b[i]!))
    }
  }
  return { worst, magnitude }
}
