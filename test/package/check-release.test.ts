/** What stops a release before anything is built. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { root } from '../support/golden.js'

const script = join(root, 'scripts', 'check-release.mjs')

t.test('check-release', async t => {
  const check = (manifest: object, changes: string, tag = 'v1.2.3', ofModel = manifest) => {
    const folder = t.testdir({
      'package.json': JSON.stringify(manifest),
      models: { 'books-7m': { 'package.json': JSON.stringify(ofModel) } },
      'CHANGELOG.md': changes,
    })
    const { status, stderr } = spawnSync(
      process.execPath,
      [script, tag, 'owner/moepp.js', folder],
      {
        encoding: 'utf8',
      },
    )
    return { status, stderr }
  }
  const manifest = { version: '1.2.3', repository: 'github:owner/moepp.js' }
  const changes = '# Changelog\n\n## 1.2.3 (2026-12-01)\n'
  const url = 'git+https://github.com/owner/moepp.js.git'
  for (const repository of [manifest.repository, url, { type: 'git', url }])
    t.same(check({ ...manifest, repository }, changes), { status: 0, stderr: '' })
  const fault = (ended: { status: number | null; stderr: string }, words: RegExp) => {
    t.equal(ended.status, 1)
    t.match(ended.stderr, words)
  }
  fault(
    check(manifest, changes, 'v1.2.4'),
    /the tag is v1\.2\.4, and package\.json has the version 1\.2\.3/,
  )
  fault(
    check(manifest, changes, 'v1.2.3', { ...manifest, version: '1.2.2' }),
    /the tag is v1\.2\.3, and models\/books-7m\/package\.json has the version 1\.2\.2/,
  )
  fault(
    check(manifest, changes, 'v1.2.3', { version: '1.2.3' }),
    /models\/books-7m\/package\.json has the repository ""/,
  )
  fault(check({ version: '1.2.3' }, changes), /the repository "", and this is owner\/moepp\.js/)
  fault(check({ ...manifest, repository: 'github:else/moepp.js' }, changes), /github:else/)
  fault(check(manifest, '## 1.2.2\n'), /CHANGELOG\.md has no entry for 1\.2\.3/)
  fault(check(manifest, '## 1.2.3 (unreleased)\n'), /calls 1\.2\.3 unreleased/)
})
