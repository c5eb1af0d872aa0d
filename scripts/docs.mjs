// Writes docs/api.md, docs/api-routing.md and docs/api-server.md from the comments of the public
// types (typedoc.json). A broken link or a public name without a comment is an error.
//
//   node scripts/docs.mjs [--check]     --check: writes nothing, fails if a file is not current
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { root, run } from './build-native.mjs'

/** The modules by typedoc's names of their files, and their documents. */
const DOCUMENTS = [
  ['index/api.md', 'api.md', 'API reference'],
  ['index/namespaces/routing.md', 'api-routing.md', 'API reference of routing'],
  ['server.md', 'api-server.md', 'API reference of moepp/server'],
]

/** The document that a file of typedoc's becomes. */
function documentOf(path) {
  return DOCUMENTS.find(([built]) => built === path)?.[1] ?? path
}

run(process.execPath, [
  join(root, 'node_modules', 'typedoc', 'bin', 'typedoc'),
  '--logLevel',
  'Warn',
])
for (const [built, name, title] of DOCUMENTS) {
  const heading = `# ${title}\n\nGenerated from the types: \`npm run docs\`. The [guide](guide.md) is shorter.\n`
  const text = readFileSync(join(root, 'build', 'api', built), 'utf8')
    .replaceAll(/\]\(([\w./]+\.md)/g, (_, path) => `](${documentOf(join(dirname(built), path))}`)
    .replace(/^# .*\n/, heading)
  const committed = join(root, 'docs', name)
  if (!process.argv.includes('--check')) writeFileSync(committed, text)
  else if (readFileSync(committed, 'utf8') !== text) {
    console.error(`moepp: docs/${name} is not what the comments say, run npm run docs`)
    process.exit(1)
  }
}
