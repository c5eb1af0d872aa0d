// Writes docs/api.md from the comments of the public types (typedoc.json). A broken link or a
// public name without a comment is an error.
//
//   node scripts/docs.mjs [--check]     --check: writes nothing, fails if the file is not current
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root, run } from './build-native.mjs'

const committed = join(root, 'docs', 'api.md')
run(process.execPath, [
  join(root, 'node_modules', 'typedoc', 'bin', 'typedoc'),
  '--logLevel',
  'Warn',
])
const heading =
  '# API reference\n\nGenerated from the types: `npm run docs`. The [guide](guide.md) is shorter.\n'
const built = readFileSync(join(root, 'build', 'api', 'api.md'), 'utf8')
const text = built.replace('# API reference\n', heading)

if (!process.argv.includes('--check')) writeFileSync(committed, text)
else if (readFileSync(committed, 'utf8') !== text) {
  console.error('moepp: docs/api.md is not what the comments say, run npm run docs')
  process.exit(1)
}
