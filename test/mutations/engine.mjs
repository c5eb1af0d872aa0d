/** Mutations of the engine: scripts/mutations.mjs. */
const tests = ['test/engine/engine.test.ts', 'test/engine/random.slow.test.ts']

export default [
  {
    name: 'engine-shares-one-token-too-many',
    breaks: 'The last token of a prompt comes from the cache, so that it has no logits.',
    in: 'lib/engine',
    find: 'commonTokens(page, row, start, limit - start)',
    replace: 'commonTokens(page, row, start, limit - start + 1)',
    tests,
  },
  {
    name: 'engine-shares-other-key-variants',
    breaks: 'Pages are shared whose keys were made for another length of the context.',
    in: 'lib/engine',
    find: ` &&
    page.keyVariants[n] === row.keyVariants[start + n]`,
    replace: '',
    tests,
  },
  {
    name: 'engine-forgets-copies',
    breaks: 'A sequence takes over the first tokens of a page that no step copies.',
    in: 'lib/engine',
    find: 'this.#scheduler.copies()',
    replace: 'new Int32Array(0)',
    tests,
  },
  {
    name: 'engine-preemption-loses-a-token',
    breaks: 'A sequence that is preempted loses the token that it made last.',
    in: 'lib/engine',
    find: 'sequence.computed = 0\n',
    replace: 'sequence.tokens.length = sequence.computed\n    sequence.computed = 0\n',
    tests,
  },
  {
    name: 'engine-leaks-a-page',
    breaks: 'A sequence that ends keeps its last page.',
    in: 'lib/engine',
    find: '[...pages].reverse()',
    replace: '[...pages].reverse().slice(1)',
    tests,
  },
  {
    name: 'engine-oldest-prompt-blocks',
    breaks: 'The oldest prompt takes all of a step, so that short ones wait for it.',
    in: 'lib/engine',
    find: 'Math.min(oldest.remaining, Math.ceil(room / 2))',
    replace: 'Math.min(oldest.remaining, room)',
    tests,
  },
  {
    name: 'engine-longest-prompt-first',
    breaks: 'What the oldest prompt leaves goes to the longest of the others.',
    in: 'lib/engine',
    find: 'others.sort((a, b) => a.remaining - b.remaining)',
    replace: 'others.sort((a, b) => b.remaining - a.remaining)',
    tests,
  },
  {
    name: 'engine-evicts-the-newest-page',
    breaks: 'The page that was given up last makes room, though later pages continue it.',
    in: 'lib/engine',
    find: 'const [oldest] = this.#unused',
    replace: 'const oldest = [...this.#unused].at(-1)',
    tests,
  },
  {
    name: 'engine-captures-twice',
    breaks: 'Tokens that are computed again after a preemption are delivered again.',
    in: 'lib/engine',
    find: 'const first = Math.max(from, sequence.recorded)',
    replace: 'const first = from',
    tests,
  },
]
