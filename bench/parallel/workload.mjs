// The tokens of each rank in each step: decoding of some sequences, or prefill of one after the
// other. Sequence b of rank r is a window of the text, the same ones whenever they are asked for.
import { randomFrom } from '../synthetic-random.mjs'

/**
 * [rank][sequence]: a window, and a shift of its generated tokens. A window that is there twice has
 * other shifts, so that two sequences are seldom at the same token.
 *
 * @param counts sequences of each rank
 * @param windows of the text that may be used
 */
export function sequencesOf(counts, windows, steps, seed) {
  const random = randomFrom(seed)
  let next = 0
  return counts.map(count =>
    Array.from({ length: count }, () => {
      const shift = next < windows ? 0 : Math.floor(random() * steps)
      return { window: next++ % windows, shift }
    }),
  )
}

/** Step i: each sequence computes token i behind its prompt. */
export function decode(sequences, prompt, steps) {
  const at = (step, shift) => prompt + ((step + shift) % steps)
  return step => sequences.map(own => own.map(({ window, shift }) => [window, at(step, shift)]))
}

/** Step i: each rank computes the prompt of its sequence i. */
export function prefill(sequences, prompt) {
  const positions = Array.from({ length: prompt }, (_, position) => position)
  return step =>
    sequences.map(own => {
      const { window } = own[step % own.length]
      return positions.map(position => [window, position])
    })
}

/** So many sequences over ranks, as evenly as can be. */
export function spread(sequences, ranks) {
  return Array.from({ length: ranks }, (_, rank) =>
    Math.floor((sequences + rank) / ranks),
  ).reverse()
}

/**
 * Groups of that many ranks. A group has as many ranks as a layer has FFN experts at most; more are
 * several groups, which share nothing. None if ranks cannot be divided so.
 */
export function groupsOf(ranks, experts) {
  const groups = Math.ceil(ranks / experts)
  return ranks % groups === 0 ? { groups, size: ranks / groups } : undefined
}
