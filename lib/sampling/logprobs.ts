/**
 * Log-probabilities of a whole row of logits, for the `logprobs` option: log-softmax, in f64.
 */

import { MoeppError } from '../errors.js'

/**
 * A token's log-probability.
 *
 * @example
 * ```ts
 * import { loadModel, type TokenLogprob } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const show = ({ tokenId, logprob }: TokenLogprob) =>
 *   console.log(model.tokenizer.idToToken(tokenId), logprob)
 * const { logprobs = [] } = await model.generate('The old', { logprobs: 3, maxNewTokens: 1 })
 * logprobs[0]?.top.forEach(show)
 * ```
 */
export interface TokenLogprob {
  /** The token's id. */
  readonly tokenId: number
  /** Natural logarithm of the probability. */
  readonly logprob: number
}

/**
 * A token's log-probability, with the likeliest alternatives, likeliest first.
 *
 * @example
 * ```ts
 * import { loadModel, type TokenLogprobs } from 'moepp'
 *
 * const model = await loadModel('npm:moepp-books-7m')
 * const wasLikeliest = ({ tokenId, top }: TokenLogprobs) => top[0]?.tokenId === tokenId
 * const { logprobs = [] } = await model.generate('The old', { logprobs: 1, temperature: 0.8 })
 * console.log(logprobs.map(wasLikeliest))
 * ```
 */
export interface TokenLogprobs extends TokenLogprob {
  /** As many as the option `logprobs` or `promptLogprobs` says. Lower ids come first on ties. */
  readonly top: readonly TokenLogprob[]
}

/**
 * Index of the largest logit, the lowest one on ties. Throws ERR_DEVICE where no distribution
 * exists: a NaN, a +Infinity, or no logit above -Infinity. Everything else in this folder calls it
 * first and so need not check.
 */
export function argmax(logits: Float32Array): number {
  const at = findLargest(logits)
  checkLargest(logits[at] ?? -Infinity, at, logits.length)
  return at
}

/** As argmax, but unchecked: the first NaN counts as largest; -1 if all are -Infinity. */
export function findLargest(logits: Float32Array): number {
  let best = -Infinity
  let at = -1
  for (let id = 0; id < logits.length; id++) {
    const x = logits[id]!
    // Written so that NaN, for which every comparison is false, enters too: one comparison per
    // token.
    if (!(x <= best)) {
      best = x
      at = id
      if (Number.isNaN(x)) break
    }
  }
  return at
}

/**
 * Throws ERR_DEVICE if a row of `count` logits, whose largest is that of token `id`, is no
 * distribution. NaN counts as largest.
 */
export function checkLargest(logit: number, id: number, count: number): void {
  const fault = logitsFault(logit, id, count)
  if (fault === undefined) return
  // Values are not looked at when weights are loaded, so these may be the cause as well as the
  // device.
  const causes = 'the weights are damaged or too large, or the device failed'
  throw new MoeppError('ERR_DEVICE', `logits: ${fault}, expected finite numbers: ${causes}`)
}

/** The reason that such a row is no distribution; undefined if it is one. */
export function logitsFault(logit: number, id: number, count: number): string | undefined {
  if (Number.isNaN(logit)) return `the logit of token ${id} is NaN`
  if (logit === Infinity) return `the logit of token ${id} is Infinity`
  if (logit === -Infinity) return `all ${count} logits are -Infinity`
  return undefined
}

/** log(sum(exp(logits))) in f64. */
export function logSumExp(logits: Float32Array): number {
  const largest = logits[argmax(logits)]!
  let sum = 0
  for (let id = 0; id < logits.length; id++) sum += Math.exp(logits[id]! - largest)
  return largest + Math.log(sum)
}

function logitOf(logits: Float32Array, tokenId: number): number {
  const logit = logits[tokenId]
  if (logit === undefined) {
    throw new RangeError(
      `tokenId: expected an integer from 0 to ${logits.length - 1}, got ${tokenId}`,
    )
  }
  return logit
}

/** Log-probability of a token and of the `alternatives` likeliest ones, lower ids first on ties. */
export function tokenLogprobs(
  logits: Float32Array,
  tokenId: number,
  alternatives: number,
): TokenLogprobs {
  const normalizer = logSumExp(logits)
  const logprob = logitOf(logits, tokenId) - normalizer
  const top = largestIds(logits, alternatives).map(id => ({
    tokenId: id,
    logprob: logits[id]! - normalizer,
  }))
  return { tokenId, logprob, top }
}

/** Ids of the `count` largest logits, largest first, lower ids first on ties. */
export function largestIds(logits: Float32Array, count: number): number[] {
  const wanted = Math.min(count, logits.length)
  if (wanted === 0) return []
  const threshold = kthLargest(logits, wanted)
  const above: number[] = []
  const tied: number[] = []
  for (let id = 0; id < logits.length; id++) {
    const x = logits[id]!
    if (x > threshold) above.push(id)
    else if (x === threshold && tied.length < wanted) tied.push(id)
  }
  above.sort((a, b) => logits[b]! - logits[a]! || a - b)
  return above.concat(tied.slice(0, wanted - above.length))
}

/**
 * The k-th largest logit: a heap of the k largest so far, its root the smallest of them. 1 <= k <=
 * logits.length.
 */
export function kthLargest(logits: Float32Array, k: number): number {
  const heap = new Float32Array(k).fill(-Infinity)
  let smallest = -Infinity
  for (let id = 0; id < logits.length; id++) {
    const x = logits[id]!
    if (x > smallest) {
      replaceRoot(heap, x)
      smallest = heap[0]!
    }
  }
  return smallest
}

function replaceRoot(heap: Float32Array, x: number): void {
  let at = 0
  for (;;) {
    let child = 2 * at + 1
    if (child >= heap.length) break
    if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child++
    if (heap[child]! >= x) break
    heap[at] = heap[child]!
    at = child
  }
  heap[at] = x
}
