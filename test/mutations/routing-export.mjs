/** Mutations of the routing report's command and files: scripts/mutations.mjs. */
const files = ['test/routing/export.test.ts']
const command = ['test/cli/routing.test.ts']

export default [
  {
    name: 'routing-csv-breaks-lines',
    breaks: 'A field with a line break alone is not quoted.',
    in: 'lib/routing/export/csv.ts',
    find: '/[",\\r\\n]/',
    replace: '/[",]/',
    tests: files,
  },
  {
    name: 'routing-rows-count-other-tokens',
    breaks: 'The counts of a window have those of a longer one before it.',
    in: 'lib/routing/tally.ts',
    find: '.slice(0, ids.length - this.#begin)',
    replace: '.slice()',
    tests: ['test/routing/survey.test.ts'],
  },
  {
    name: 'routing-parquet-keeps-written-bytes',
    breaks: 'A group of rows is written again with the next one.',
    in: 'lib/routing/export/parquet.ts',
    find: 'bytes.index = 0',
    replace: '',
    tests: files,
  },
  {
    name: 'routing-sample-has-a-token-more',
    breaks: 'The last window of a sample is not cut.',
    in: 'lib/routing/export/sample-keeper.ts',
    find: 'Math.min(this.#tokens, rows.tokens.length)',
    replace: 'this.#tokens && rows.tokens.length',
    tests: files,
  },
  {
    name: 'routing-sample-keeps-all-picks',
    breaks: 'The picks of a sample take ten times the memory of what a page shows.',
    in: 'lib/routing/export/sample-keeper.ts',
    find: 'if (picks > this.#picks)',
    replace: 'if (false)',
    tests: files,
  },
  {
    name: 'routing-tables-replace-a-text',
    breaks: 'A table takes the place of the text that is read.',
    in: 'lib/cli/routing-plan.ts',
    find: ', ...(await tablesOf(paths))',
    replace: '',
    tests: command,
  },
  {
    name: 'routing-text-that-shrinks',
    breaks: 'Half of a text is taken for the whole, because it became shorter.',
    in: 'lib/cli/text-input.ts',
    find: 'this.size !== undefined && this.#bytes < this.size',
    replace: 'false',
    tests: command,
  },
  {
    name: 'routing-text-splits-characters',
    breaks: 'A character between two chunks of a file is two broken ones.',
    in: 'lib/cli/text-input.ts',
    find: 'decoder.decode(chunk, { stream: true })',
    replace: 'decoder.decode(chunk)',
    tests: command,
  },
]
