// Tells whether this checkout may be published under a tag. It runs before anything is built.
//
//   node scripts/check-release.mjs <tag> <owner/name of the repository> [folder]
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './build-native.mjs'

const [tag, repository, folder = root] = process.argv.slice(2)
if (!tag || !repository) {
  console.error('usage: node scripts/check-release.mjs <tag> <owner/name> [folder]')
  process.exit(2)
}
const page = `https://github.com/${repository}`
const faults = []
for (const file of ['package.json', 'models/books-7m/package.json']) {
  const manifest = JSON.parse(readFileSync(join(folder, file), 'utf8'))
  if (tag !== `v${manifest.version}`)
    faults.push(`the tag is ${tag}, and ${file} has the version ${manifest.version}`)

  // npm compares it with where the workflow runs, and refuses provenance that does not match, after
  // everything was built.
  const address = manifest.repository?.url ?? manifest.repository ?? ''
  const named = /^(?:github:|(?:git\+)?https:\/\/github\.com\/)([^/]+\/[^/]+?)(?:\.git)?$/.exec(
    address,
  )?.[1]
  if (named !== repository)
    faults.push(`${file} has the repository ${JSON.stringify(address)}, and this is ${repository}`)
  for (const field of ['homepage', 'bugs']) {
    const link = manifest[field]?.url ?? manifest[field] ?? ''
    if (link !== page && !link.startsWith(`${page}/`) && !link.startsWith(`${page}#`))
      faults.push(`${file} has the ${field} ${JSON.stringify(link)}, expected one at ${page}`)
  }
}

// The places where a report in private is explained.
const form = `${page}/security/advisories/new`
for (const file of ['SECURITY.md', '.github/ISSUE_TEMPLATE/config.yml']) {
  const text = readFileSync(join(folder, file), 'utf8')
  if (/no\s+public\s+address\s+yet/.test(text))
    faults.push(`${file} says that there is no public address yet`)
  if (!text.includes(form)) faults.push(`${file} does not name ${form}`)
}

const version = tag.replace(/^v/, '')
const changes = readFileSync(join(folder, 'CHANGELOG.md'), 'utf8')
const heading = changes.split('\n').find(line => line.startsWith(`## ${version}`))
if (heading === undefined) faults.push(`CHANGELOG.md has no entry for ${version}`)
else if (heading.includes('unreleased')) faults.push(`CHANGELOG.md calls ${version} unreleased`)

for (const fault of faults) console.error(`moepp: not to be published: ${fault}`)
process.exit(faults.length === 0 ? 0 : 1)
