/** Means with their intervals. */
import type { MeanInterval } from './types.js'

/**
 * The mean of n numbers with the half width of its 95 % interval: t s / sqrt(n). Here s is the
 * standard deviation, divided by n - 1, and t Student's quantile for n - 1 degrees of freedom.
 *
 * Tokens of a text are not independent, so the true interval of a text's mean is wider. No number
 * has mean 0; fewer than two have no interval.
 *
 * @throws RangeError for a number that is not finite
 *
 * @example
 * ```ts
 * import { routing } from 'moepp'
 *
 * const { mean, halfWidth } = routing.interval([1, 2, 0, 1])
 * console.log(mean, '+-', halfWidth?.toFixed(2)) // 1 +- 1.30
 * ```
 */
export function interval(values: ArrayLike<number>): MeanInterval {
  let sum = 0
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!
    if (!Number.isFinite(value))
      throw new RangeError(`values[${i}]: expected a finite number, got ${value}`)
    sum += value
  }
  const mean = values.length === 0 ? 0 : sum / values.length
  let squares = 0
  for (let i = 0; i < values.length; i++) squares += (values[i]! - mean) ** 2
  return intervalOf(values.length, mean, squares)
}

/** Of sums of integers, each `scale` times a number: exact below 2^53. */
export function intervalOfSums(
  count: number,
  sum: number,
  sumOfSquares: number,
  scale: number,
): MeanInterval {
  if (count === 0) return intervalOf(0, 0, 0)
  const squares = Math.max(0, sumOfSquares * count - sum * sum) / count
  return intervalOf(count, sum / (count * scale), squares / (scale * scale))
}

/** `squares`: the sum of squared deviations from the mean. */
function intervalOf(count: number, mean: number, squares: number): MeanInterval {
  if (count < 2) return { count, mean, halfWidth: null }
  const deviation = Math.sqrt(squares / (count - 1))
  return { count, mean, halfWidth: (studentQuantile(count - 1) * deviation) / Math.sqrt(count) }
}

/** Normal quantile of 0.975. */
const NORMAL = 1.959963984540054
/** Student's for 1 to 6 degrees of freedom, where the expansion below is too coarse. */
const FEW = [12.706204736, 4.30265273, 3.182446305, 2.776445105, 2.570581836, 2.446911851]

/** The quantile of 0.975. Source: Abramowitz and Stegun 26.7.5, to 1e-4. */
export function studentQuantile(freedom: number): number {
  const few = FEW[freedom - 1]
  if (few !== undefined) return few
  const z = NORMAL
  const terms = [
    (z ** 3 + z) / 4,
    (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96,
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384,
    (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / 92160,
  ]
  return terms.reduce((sum, term, i) => sum + term / freedom ** (i + 1), z)
}
