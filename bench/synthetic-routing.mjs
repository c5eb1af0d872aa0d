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
 * zero-computation ones. The latter get 1 - share of the picks; there are none for a share of 1.
 */
export function meanLogits({ ffnExperts: N, experts: E, share, seed }) {
  const random = randomFrom(seed)
  const normal = normalFrom(random)
  const skews = Array.from({ length: E }, () => SKEW * normal())
  if (share >= 1) return skews.map((skew, e) => (e < N ? skew : NEVER))
  const noise = Float64Array.from({ length: SAMPLES * E }, normal)
  let [low, high] = [-8, 8]
  // A higher mean of the zero-computation experts leaves fewer picks to the others.
  for (let i = 0; i < 24; i++) {
    const middle = (low + high) / 2
    const means = skews.map((skew, e) => (e < N ? skew : skew + middle))
    if (shareOf(means, noise, N) > share) low = middle
    else high = middle
  }
  return skews.map((skew, e) => (e < N ? skew : skew + low))
}

/** Share of the two largest of means + noise, over all samples, that are FFN experts. */
function shareOf(means, noise, ffnExperts) {
  const E = means.length
  let picks = 0
  for (let at = 0; at < noise.length; at += E) {
    let [first, second] = [0, -1]
    for (let e = 1; e < E; e++) {
      const logit = means[e] + noise[at + e]
      if (logit > means[first] + noise[at + first]) [first, second] = [e, first]
      else if (second < 0 || logit > means[second] + noise[at + second]) second = e
    }
    picks += (first < ffnExperts ? 1 : 0) + (second < ffnExperts ? 1 : 0)
  }
  return picks / (2 * (noise.length / E))
}

/**
 * One layer's router [E, H], and its offsets in column 0. `previousMeans` are the accumulated mean
 * logits of the layer before, which reach this layer through `gateMap` [E, E]: they are taken off
 * again.
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
