/** The faults that stop a release before anything is built. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/golden.js'

const script = join(root, 'scripts', 'check-release.mjs')
const page = 'https://github.com/owner/moepp.js'
const form = `${page}/security/advisories/new`

const published = {
  version: '1.2.3',
  repository: 'github:owner/moepp.js' as unknown,
  homepage: `${page}#readme` as unknown,
  bugs: { url: `${page}/issues` } as unknown,
}
const good = {
  manifest: published,
  ofModel: published,
  changes: '# Changelog\n\n## 1.2.3 (2026-12-01)\n',
  security: `# Security\n\nReport a vulnerability at ${form}.\n`,
  contact: `contact_links:\n  - url: ${form}\n`,
  tag: 'v1.2.3',
}

t.test('check-release', async t => {
  const check = (changed: Partial<typeof good> = {}) => {
    const { manifest, ofModel, changes, security, contact, tag } = { ...good, ...changed }
    const folder = t.testdir({
      'package.json': JSON.stringify(manifest),
      models: { 'books-7m': { 'package.json': JSON.stringify(ofModel) } },
      'CHANGELOG.md': changes,
      'SECURITY.md': security,
      '.github': { ISSUE_TEMPLATE: { 'config.yml': contact } },
    })
    const args = [script, tag, 'owner/moepp.js', folder]
    const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
    return { status, stderr }
  }
  const url = `git+${page}.git`
  for (const repository of [good.manifest.repository, url, { type: 'git', url }])
    t.same(check({ manifest: { ...good.manifest, repository } }), { status: 0, stderr: '' })
  for (const bugs of [`${page}/issues`, { url: `${page}/issues` }])
    t.equal(check({ manifest: { ...good.manifest, bugs } }).status, 0)

  /** One fault alone, so that each check is seen to refuse. */
  const fault = (changed: Partial<typeof good>, words: RegExp) => {
    const { status, stderr } = check(changed)
    t.equal(status, 1)
    t.equal(stderr.trim().split('\n').length, 1, stderr)
    t.match(stderr, words)
  }
  const manifest = (changed: Partial<typeof good.manifest>) => ({
    manifest: { ...good.manifest, ...changed },
  })
  fault(
    {
      tag: 'v1.2.4',
      ofModel: { ...good.manifest, version: '1.2.4' },
      changes: '## 1.2.4 (2026-12-01)\n',
    },
    /the tag is v1\.2\.4, and package\.json has the version 1\.2\.3/,
  )
  fault(manifest({ repository: undefined }), /the repository "", and this is owner\/moepp\.js/)
  fault(manifest({ repository: 'github:else/moepp.js' }), /github:else/)
  fault(manifest({ homepage: undefined }), /has the homepage "", expected one at https:/)
  fault(manifest({ homepage: `${page}-else` }), /has the homepage/)
  fault(manifest({ bugs: undefined }), /has the bugs "", expected one at https:/)
  fault(manifest({ bugs: { url: 'https://example.org' } }), /has the bugs "https:\/\/example\.org"/)
  fault({ changes: '## 1.2.2\n' }, /CHANGELOG\.md has no entry for 1\.2\.3/)
  fault({ changes: '## 1.2.3 (unreleased)\n' }, /calls 1\.2\.3 unreleased/)
  fault({ security: '# Security\n' }, /SECURITY\.md does not name https:.*advisories\/new/)
  fault(
    { security: `${good.security}The package has no public\naddress yet.\n` },
    /SECURITY\.md says that there is no public address yet/,
  )
  fault({ contact: '' }, /config\.yml does not name https:/)
  fault(
    { contact: `${good.contact}# no public address yet\n` },
    /config\.yml says that there is no/,
  )
  const ofModel = (changed: Partial<typeof good.manifest>) => ({
    ofModel: { ...good.manifest, ...changed },
  })
  fault(
    ofModel({ version: '1.2.2' }),
    /the tag is v1\.2\.3, and models\/books-7m\/package\.json has the version 1\.2\.2/,
  )
  fault(ofModel({ repository: '' }), /models\/books-7m\/package\.json has the repository ""/)
  fault(ofModel({ bugs: '' }), /models\/books-7m\/package\.json has the bugs ""/)
})

t.test('this checkout names every place that lacks the address', async t => {
  const args = [script, 'v0.0.0', 'owner/name']
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  t.equal(status, 1)
  const { repository } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  if (repository !== undefined) return
  for (const place of ['repository', 'homepage', 'bugs', 'SECURITY.md', 'config.yml', 'books-7m'])
    t.match(stderr, place)
})
