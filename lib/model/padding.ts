/**
 * A GPU records a step of few tokens once per size and replays it (native/program/program.cc).
 * Sequences come and go, so a decode step could have any number of tokens. It is padded to one of a
 * few sizes. No GPU has shown yet what that gains.
 */
import type { Step } from '../engine/runner.js'

/** Steps of more tokens are not recorded. */
const RECORDED_TOKENS = 64

/**
 * Sizes are multiples of it. Below, each is one of its own: a token more would often read experts
 * that no other needs.
 */
const MULTIPLE = 8

/** Tokens that are missing to the next size. */
export function missingTokens(step: Step): number {
  const T = step.tokens.length
  const decodes = T === step.sequenceStarts.length - 1
  if (!decodes || T <= MULTIPLE || T >= RECORDED_TOKENS || step.capture.length > 0) return 0
  return (MULTIPLE - (T % MULTIPLE)) % MULTIPLE
}

/**
 * Pads a decode step to the next recorded size, with tokens after all others. Each is a sequence of
 * its own with a place of its own on `page`, which no text may have. Their results are the last
 * rows.
 */
export function padded(step: Step, page: number): Step {
  const missing = missingTokens(step)
  if (missing === 0) return step
  const B = step.sequenceStarts.length - 1
  const places = Int32Array.from({ length: missing }, (_, i) => i)
  const rows = step.logitRows.length > 0 ? places.map(i => step.tokens.length + i) : []
  return {
    ...step,
    tokens: joined(step.tokens, new Int32Array(missing)),
    positions: joined(step.positions, places),
    preceding: joined(step.preceding, new Int32Array((step.preceding.length / B) * missing)),
    sequenceStarts: joined(
      step.sequenceStarts,
      places.map(i => step.tokens.length + i + 1),
    ),
    pageTable: joined(
      step.pageTable,
      new Int32Array((step.pageTable.length / B) * missing).fill(page),
    ),
    keyVariants: joined(step.keyVariants, new Int32Array(missing)),
    logitRows: joined(step.logitRows, rows),
  }
}

function joined(first: Int32Array, more: ArrayLike<number>): Int32Array {
  const all = new Int32Array(first.length + more.length)
  all.set(first)
  all.set(more, first.length)
  return all
}
