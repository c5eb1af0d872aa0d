/** Mutations of state files, and of the pages that they hold: scripts/mutations.mjs. */
const tests = ['test/generation/state.test.ts', 'test/engine/held-pages.test.ts']

export default [
  {
    name: 'state-tells-of-other-texts',
    breaks: 'Rows behind the last token are written as they are: keys of other texts.',
    in: 'lib/generation',
    find: 'if (rows < pageSize) clearBehind(values, rows, pageSize, cache)',
    replace: '',
    tests,
  },
  {
    name: 'state-pages-of-the-group-before',
    breaks: 'Pages behind those of the cache are taken for pages that the cache has.',
    in: 'lib/generation',
    find: 'if (page >= shared)',
    replace: 'if (page > shared)',
    tests,
  },
  {
    name: 'state-keeps-refused-pages',
    breaks: 'Pages are begun with before the checksum is compared.',
    in: 'lib/generation',
    find: 'await reader.end()\n',
    replace: 'this.#engine.adopt(reserved)\n      await reader.end()\n',
    tests: ['test/generation/state-damage.test.ts'],
  },
  {
    name: 'state-values-unchecked',
    breaks: 'Keys that are not finite come into the cache.',
    in: 'lib/generation',
    find: 'isFinite32(new Uint32Array(buffer, byteOffset, byteLength / 4)) ? values : undefined',
    replace: 'values',
    tests: ['test/generation/state-damage.test.ts'],
  },
  {
    name: 'engine-forgets-who-waits',
    breaks: 'Sequences that wait for held pages are not woken when these are given back.',
    in: 'lib/engine',
    find: 'this.#pages.close(pages)\n    this.#wake()',
    replace: 'this.#pages.close(pages)',
    tests,
  },
  {
    name: 'engine-frees-kept-pages',
    breaks: 'Pages that a sequence keeps are given up with it.',
    in: 'lib/engine',
    find: 'this.pages.splice(0)',
    replace: '[...this.pages]',
    tests,
  },
]
