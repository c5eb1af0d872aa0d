// Shows that two programs compute one function: how often they hold the same token for the
// likeliest.

/** With bf16 weights on both sides only near ties may differ. */
const LEAST_SHARE = 0.9

/** Positions at which both are the same. */
export function countSame(a, b) {
  if (a.length !== b.length) throw new Error(`${a.length} tokens and ${b.length}, expected as many`)
  return a.filter((token, i) => token === b[i]).length
}

/**
 * Ends a comparison of two functions, whose times say nothing; quantised sides round differently,
 * and are not held to it.
 */
export function requireAgreement(same, tokens, dtypes) {
  if (dtypes.some(dtype => dtype !== 'bfloat16') || same >= LEAST_SHARE * tokens) return
  throw new Error(
    `the likeliest next token is the same at ${same} of ${tokens} positions, expected ${100 * LEAST_SHARE} % at least: ` +
      'the two sides do not compute the same',
  )
}
