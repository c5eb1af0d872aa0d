/**
 * Hugging Face's logits processors and warpers the plain way: f64, whole vocabulary, full sorts.
 */

import type { ResolvedOptions } from '../../lib/options/generate.js'
import { uniform } from '../../lib/sampling/rng.js'

/**
 * Deterministic numbers for tests: `next()` in [0, 1), `normal()` standard normal, `below(n)` an
 * integer.
 */
export function random(seed: number) {
  let step = 0
  const next = () => uniform(seed, 0, step++)
  const normal = () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next())
  return { next, normal, below: (n: number) => Math.floor(next() * n) }
}

export function softmax(scores: readonly number[]): number[] {
  const largest = Math.max(...scores)
  const weights = scores.map(score => Math.exp(score - largest))
  const total = weights.reduce((a, b) => a + b)
  return weights.map(weight => weight / total)
}

/** Indices in ascending order of key, lower index first on ties. */
function order(keys: readonly number[]): number[] {
  return keys.map((_, i) => i).sort((a, b) => (keys[a]! === keys[b]! ? a - b : keys[a]! - keys[b]!))
}

function mask(scores: readonly number[], keep: (i: number) => boolean): number[] {
  return scores.map((score, i) => (keep(i) ? score : -Infinity))
}

export function topK(scores: readonly number[], k: number): number[] {
  const kth = [...scores].sort((a, b) => b - a)[Math.min(k, scores.length) - 1]!
  return mask(scores, i => scores[i]! >= kth)
}

export function topP(scores: readonly number[], p: number): number[] {
  const probabilities = softmax(scores)
  const kept = new Set<number>()
  let cumulative = 0
  for (const i of order(scores.map(score => -score))) {
    if (kept.size > 0 && cumulative >= p) break
    kept.add(i)
    cumulative += probabilities[i]!
  }
  return mask(scores, i => kept.has(i))
}

export function minP(scores: readonly number[], p: number): number[] {
  const probabilities = softmax(scores)
  const threshold = p * Math.max(...probabilities)
  return mask(scores, i => probabilities[i]! >= threshold)
}

export function typicalP(scores: readonly number[], mass: number): number[] {
  const probabilities = softmax(scores)
  const information = probabilities.map(p => -Math.log(p))
  const entropy = probabilities.reduce((sum, p, i) => sum + (p > 0 ? p * information[i]! : 0), 0)
  const shifted = information.map(x => Math.abs(x - entropy))
  const sorted = order(shifted)
  let cumulative = 0
  let last = 0
  for (const i of sorted) {
    cumulative += probabilities[i]!
    if (cumulative < mass) last++
  }
  const threshold = shifted[sorted[Math.min(last, sorted.length - 1)]!]!
  return mask(scores, i => shifted[i]! <= threshold)
}

/** Probabilities [V] that a step draws from, 0 for tokens left out. */
export function distribution(logits: ArrayLike<number>, options: ResolvedOptions): number[] {
  let scores = Array.from(logits, x => x / options.temperature)
  if (options.topK > 0) scores = topK(scores, options.topK)
  if (options.topP < 1) scores = topP(scores, options.topP)
  if (options.minP > 0) scores = minP(scores, options.minP)
  if (options.typicalP < 1) scores = typicalP(scores, options.typicalP)
  return softmax(scores)
}

/** Logits after every penalty, rounded to f32 where Hugging Face's tensors are. */
export function penalized(
  logits: Float32Array,
  options: ResolvedOptions,
  prompt: readonly number[],
  generated: readonly number[],
  endTokenIds: readonly number[],
): Float32Array {
  const out = logits.slice()
  for (const [id, bias] of options.logitBias) out[id]! += bias
  const all = [...prompt, ...generated]
  for (let id = 0; id < out.length; id++) {
    let x = out[id]!
    if (all.includes(id)) x = x < 0 ? x * options.repetitionPenalty : x / options.repetitionPenalty
    const count = generated.filter(other => other === id).length
    if (count > 0) x -= count * options.frequencyPenalty + options.presencePenalty
    out[id] = x
  }
  for (const id of ngramBans(all, options.noRepeatNgramSize)) out[id] = -Infinity
  if (generated.length < options.minNewTokens) for (const id of endTokenIds) out[id] = -Infinity
  return out
}

/** Tokens that would complete an n-gram which `tokens` holds. */
export function ngramBans(tokens: readonly number[], n: number): Set<number> {
  const bans = new Set<number>()
  if (n === 0 || tokens.length + 1 < n) return bans
  const prefix = tokens.slice(tokens.length - (n - 1)).join()
  for (let at = 0; at + n <= tokens.length; at++) {
    if (n === 1 || tokens.slice(at, at + n - 1).join() === prefix) bans.add(tokens[at + n - 1]!)
  }
  return bans
}
