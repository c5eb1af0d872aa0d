/** Mutations of grammars: scripts/mutations.mjs. */
export default [
  {
    name: 'grammar-end-anywhere',
    breaks: 'Tokens that end a text are allowed where the grammar goes on.',
    in: 'lib/grammar',
    find: 'if (mayEnd) for (const id of endIds) set(next, id)',
    replace: 'for (const id of endIds) set(next, id)',
    tests: ['test/grammar/generate.test.ts'],
  },
  {
    name: 'grammar-string-one-longer',
    breaks: 'A long string may have one character more than maxLength.',
    in: 'lib/grammar',
    find: 'if (this.#count(id, at) > most)',
    replace: 'if (this.#count(id, at) > most + 1)',
    tests: ['test/grammar/string-lengths.test.ts'],
  },
  {
    name: 'grammar-other-key-may-be-named',
    breaks: 'An additional property may have the name of a declared one.',
    in: 'lib/grammar',
    find: "return sequence(text('\"'), restBesides(usable))",
    replace: "return sequence(text('\"'), restBesides([]))",
    tests: ['test/grammar/json-schema.slow.test.ts'],
  },
  {
    name: 'grammar-first-space-kept',
    breaks: 'A first token whose space is dropped is allowed for its space.',
    in: 'lib/grammar',
    find: 'await writeMask(following, dropsSpace ? prefixed : [])',
    replace: 'await writeMask(following)',
    tests: ['test/grammar/generate.test.ts'],
  },
  {
    name: 'grammar-repeats-too-few',
    breaks: 'A repetition may end one too early.',
    in: 'lib/grammar',
    find: 'const mayEnd = most !== Infinity && left > least',
    replace: 'const mayEnd = most !== Infinity && left >= least',
    tests: ['test/grammar/ebnf.slow.test.ts'],
  },
]
