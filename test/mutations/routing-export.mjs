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
    name: 'routing-rows-count-idle-experts',
    breaks: 'An FFN expert with weight 0 counts in a row.',
    in: 'lib/routing/export/token-rows.ts',
    find: "weights[at]! > 0 && kinds[experts[at]!] === 'ffn'",
    replace: "kinds[experts[at]!] === 'ffn'",
    tests: files,
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
    find: 'Math.min(this.#room, rows.tokens.length)',
    replace: 'this.#room && rows.tokens.length',
    tests: files,
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
