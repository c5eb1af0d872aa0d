/** The built addon asks of a system no more than it may, and a file that does not load is explained. */
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type AddonFile, checkWhole, explainFailure, platformOf } from '../../lib/addon-file.js'
import { root } from '../support/golden.js'
import { compareVersions, readSharedLibrary } from './elf.js'
import { checkRequirements } from './requirements.js'

const skip = process.platform !== 'linux' && 'ELF is a format of Linux'

t.test('the local build needs the C library alone, and no recent one', { skip }, async t => {
  checkRequirements(t, readSharedLibrary(readFileSync(join(root, 'build', 'Release', 'moepp.node'))))
})

t.test('the ELF reader sees what node itself needs', { skip }, async t => {
  const { needed, versions, exports } = readSharedLibrary(readFileSync(process.execPath))
  t.ok(needed.includes('libc.so.6'))
  t.ok(versions.some(version => /^GLIBC_2\.\d+$/.test(version)))
  t.ok(exports.includes('napi_create_object'))
  t.throws(() => readSharedLibrary(Buffer.alloc(100)), /not a 64-bit/)
})

t.test('versions are compared by number', async t => {
  const sorted = ['GLIBC_2.35', 'GLIBC_2.4', 'GLIBC_2.28'].sort(compareVersions)
  t.same(sorted, ['GLIBC_2.4', 'GLIBC_2.28', 'GLIBC_2.35'])
})

t.test('a damaged prebuild is found before it is loaded', async t => {
  const path = join(t.testdir(), 'moepp.node')
  const file: AddonFile = { path, origin: 'prebuild' }
  const bytes = Buffer.from('any bytes')
  writeFileSync(path, bytes)
  t.doesNotThrow(() => checkWhole(file, '/package'), 'nothing was recorded')
  writeFileSync(`${path}.sha256`, `${createHash('sha256').update(bytes).digest('hex')}  moepp.node\n`)
  t.doesNotThrow(() => checkWhole(file, '/package'))
  writeFileSync(path, bytes.subarray(1))
  t.throws(
    () => checkWhole(file, '/package'),
    /moepp\.node is damaged: .*expected [0-9a-f]{64}\. .*install it again/,
  )
  t.doesNotThrow(() => checkWhole({ path, origin: 'local build' }, '/package'))
})

t.test('the platform of a file', async t => {
  const folder = t.testdir()
  const elf = Buffer.from('\x7fELF', 'latin1')
  const cases: [string, Buffer, string | undefined][] = [
    ['elf-arm64', Buffer.concat([elf, Buffer.alloc(14), Buffer.from([0xb7, 0])]), 'linux-arm64'],
    ['elf-x64', Buffer.concat([elf, Buffer.alloc(14), Buffer.from([0x3e, 0])]), 'linux-x64'],
    ['mach-o', Buffer.from('cffaedfe0c000001', 'hex'), 'darwin-arm64'],
    [
      'pe',
      Buffer.concat([Buffer.from('MZ'), Buffer.alloc(58), Buffer.from('4000000050450000648600', 'hex')]),
      'win32-x64',
    ],
    ['text', Buffer.from('hello'), undefined],
    ['empty', Buffer.alloc(0), undefined],
  ]
  for (const [name, bytes, expected] of cases) {
    writeFileSync(join(folder, name), bytes)
    t.equal(platformOf(join(folder, name)), expected, name)
  }
  t.equal(platformOf(join(folder, 'absent')), undefined)
})

t.test('what to do about a file that does not load', async t => {
  const folder = t.testdir()
  mkdirSync(join(folder, 'prebuilds', 'linux-x64'), { recursive: true })
  writeFileSync(join(folder, 'prebuilds', 'linux-x64', 'moepp.glibc.node'), '')
  const path = join(folder, 'build', 'Release', 'moepp.node')
  const words = `/lib/libc.so.6: version \`GLIBC_2.38' not found (required by ${path})`
  const text = explainFailure({ path, origin: 'local build' }, folder, words)
  t.match(text, words)
  t.match(text, /needs GLIBC_2\.38, and this system's C library is older/)
  t.match(text, /built here and goes before the package's own/)
  t.match(text, `node ${join(folder, 'scripts', 'build-native.mjs')}`)
  t.match(
    explainFailure({ path: '/x.node', origin: 'environment' }, folder, 'no'),
    /^\/x\.node: no\. MOEPP_BINDING/,
  )
})
