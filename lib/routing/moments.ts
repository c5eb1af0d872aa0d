/** Mean and variance of large sets of numbers, in f64 and without cancellation. */
import type { Moments } from './types.js'

export const NO_MOMENTS: Moments = { count: 0, mean: 0, variance: 0, least: 0, most: 0 }

/** Sums of deviations from the first value: near the mean, so that nothing cancels. */
export function momentsOf(values: Float32Array | Float64Array): Moments {
  const count = values.length
  if (count === 0) return NO_MOMENTS
  const shift = values[0]!
  let sum = 0
  let squares = 0
  let least = shift
  let most = shift
  for (let i = 0; i < count; i++) {
    const value = values[i]!
    const deviation = value - shift
    sum += deviation
    squares += deviation * deviation
    if (value < least) least = value
    if (value > most) most = value
  }
  const mean = sum / count
  return {
    count,
    mean: shift + mean,
    variance: Math.max(0, squares / count - mean * mean),
    least,
    most,
  }
}

/** Of both sets together. Source: Chan, Golub and LeVeque 1979. */
export function mergeMoments(a: Moments, b: Moments): Moments {
  if (a.count === 0) return b
  if (b.count === 0) return a
  const count = a.count + b.count
  const share = b.count / count
  const apart = b.mean - a.mean
  return {
    count,
    mean: a.mean + apart * share,
    variance: a.variance * (1 - share) + b.variance * share + apart * apart * share * (1 - share),
    least: Math.min(a.least, b.least),
    most: Math.max(a.most, b.most),
  }
}
