// Routers that choose as a trained model's do. Random router rows alone choose all experts equally
// often. Here each expert's logit gets an offset besides. The offsets are solved for, so that the
// wanted share of the picks is of FFN experts.
//
// The offset comes from a fixed direction of the hidden state. Element 0 of every embedding is the
// same number, no matrix writes to that element, and column 0 of a router holds its offsets. FFN
// experts and attention are small beside the embedding. So the normalised hidden state is ANCHOR
// there and normal elsewhere in every layer. A logit over tokens is then normal, with the mean that
// we choose and the length of the router's row as deviation. A copy expert adds a multiple of the
// hidden state itself, which the norm takes out again.
import { normalFrom, randomFrom } from './synthetic-random.mjs'

/** Element 0 of the hidden state, in deviations of the others. */
export const ANCHOR = 4

/**
 * Deviation of the experts' mean logits, in deviations of a logit over tokens: loads differ by
 * about a fifth.
 */
const SKEW = 0.12
/** Below any logit of an FFN expert, in the same unit. */
const NEVER = -20
const SAMPLES = 8192

/**
 * Mean logits of the experts of one layer, in deviations of a logit: N FFN experts, then the
 * zero-computation ones. The latter get 1 - share of the K picks; there are none for a share of 1.
 */
export function meanLogits({ ffnExperts: N, experts: E, topK: K, share, seed }) {
  const random = randomFrom(seed)
  const normal = normalFrom(random)
  const skews = Array.from({ length: E }, () => SKEW * normal())
  if (share >= 1) return skews.map((skew, e) => (e < N ? skew : NEVER))
  const samples = Array.from({ length: SAMPLES }, () => {
    const logits = Float64Array.from(skews, skew => skew + normal())
    return { ffn: largest(logits.subarray(0, N), K), others: largest(logits.subarray(N), K) }
  })
  let [low, high] = [-8, 8]
  // A higher mean of the zero-computation experts leaves fewer picks to the others.
  for (let i = 0; i < 24; i++) {
    const middle = (low + high) / 2
    if (shareOf(samples, middle, K) > share) low = middle
    else high = middle
  }
  return skews.map((skew, e) => (e < N ? skew : skew + low))
}

/** The `count` largest values, in descending order. */
function largest(values, count) {
  const found = values.slice(0, Math.min(count, values.length)).sort().reverse()
  for (let i = found.length; i < values.length; i++) {
    const value = values[i]
    let at = found.length
    while (at > 0 && found[at - 1] < value) at--
    if (at === found.length) continue
    found.copyWithin(at + 1, at, found.length - 1)
    found[at] = value
  }
  return found
}

/** Share of the K largest logits that are of FFN experts, if the others' are raised. */
function shareOf(samples, raise, K) {
  let picks = 0
  for (const { ffn, others } of samples) {
    let chosen = 0
    for (let k = 0; k < K; k++) {
      const other = others[k - chosen]
      if (other === undefined || (chosen < ffn.length && ffn[chosen] >= other + raise)) chosen++
    }
    picks += chosen
  }
  return picks / (K * samples.length)
}

/**
 * One layer's router [E, H], and its offsets in column 0. `previousMeans` are the accumulated mean
 * logits of the layer before, which reach this layer through `gateMap` [E, E]: they are taken off
 * again. Families without it have neither.
 */
export function routerRows({ hidden, means, previousMeans, gateMap, std, seed }) {
  const normal = normalFrom(randomFrom(seed))
  const E = means.length
  const rows = new Float32Array(E * hidden)
  // The norm sees the anchor too, which makes all other elements smaller.
  const rms = Math.sqrt((hidden - 1 + ANCHOR ** 2) / hidden)
  const deviation = (std * Math.sqrt(hidden - 1)) / rms
  const wanted = means.map(mean => mean * deviation)
  for (let e = 0; e < E; e++) {
    let carried = 0
    for (let f = 0; f < E && previousMeans; f++) carried += gateMap[e * E + f] * previousMeans[f]
    rows[e * hidden] = ((wanted[e] - carried) * rms) / ANCHOR
    const row = rows.subarray(e * hidden + 1, (e + 1) * hidden)
    for (let h = 0; h < row.length; h++) row[h] = normal()
    for (let f = 0; f < e; f++) takeOff(row, rows.subarray(f * hidden + 1, (f + 1) * hidden))
    scaleTo(row, std * Math.sqrt(hidden - 1))
  }
  return { rows, means: wanted }
}

/**
 * Takes off `row` what it has in the direction of `other`: orthogonal rows give independent logits,
 * as the means expect.
 */
function takeOff(row, other) {
  const factor = dot(row, other) / dot(other, other)
  for (let h = 0; h < row.length; h++) row[h] -= factor * other[h]
}

function scaleTo(row, length) {
  const factor = length / Math.sqrt(dot(row, row))
  for (let h = 0; h < row.length; h++) row[h] *= factor
}

function dot(a, b) {
  let sum = 0
  for (let h = 0; h < a.length; h++) sum += a[h] * b[h]
  return sum
}
