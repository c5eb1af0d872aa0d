/**
 * The built addon asks of a system no more than it may, and a file that does not load is explained.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  type AddonFile,
  checkWhole,
  explainFailure,
  findAddon,
  glibcVersion,
  libc,
  originOf,
  platformOf,
} from '../../lib/addon/addon-file.js'
import { loadBinding } from '../../lib/addon/binding.js'
import { root } from '../support/golden.js'
import { compareVersions, readSharedLibrary } from './elf.js'
import { checkRequirements, requirementFaults } from './requirements.js'

const skip = process.platform !== 'linux' && 'ELF is a format of Linux'

t.test('the local build needs the C library alone, and no recent one', { skip }, async t => {
  checkRequirements(
    t,
    readSharedLibrary(readFileSync(join(root, 'build', 'Release', 'moepp.node'))),
  )
})

t.test('what a binary must not need or show', async t => {
  const right = {
    needed: ['libc.so.6', 'libm.so.6'],
    versions: ['GLIBC_2.2.5', 'GLIBC_2.28'],
    exports: ['napi_register_module_v1', 'node_api_module_get_api_version_v1'],
    stripped: true,
  }
  const faults = (change: Partial<typeof right>) =>
    requirementFaults({ ...right, ...change }, 'GLIBC_2.28')
  t.same(faults({}), [])
  t.same(faults({ needed: ['libc.so.6', 'libpthread.so.0'] }), [], 'a part of an old glibc')
  t.same(faults({ versions: ['GLIBC_2.29', 'GLIBC_2.4'] }), [
    'needs GLIBC_2.29, at most GLIBC_2.28',
  ])
  for (const version of ['GLIBC_ABI_DT_RELR', 'GLIBC_PRIVATE', 'GLIBCXX_3.4', 'GCC_3.0'])
    t.same(faults({ versions: ['GLIBC_2.17', version] }), [`needs ${version}`])
  t.same(faults({ versions: [] }), ['names no version of glibc'])
  t.same(faults({ needed: ['libstdc++.so.6'] }), ['needs libstdc++.so.6'])
  t.same(faults({ exports: [...right.exports, '_ZdlPv'] }), ['shows _ZdlPv'])
  t.same(faults({ exports: right.exports.slice(1) }), ['lacks napi_register_module_v1'])
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
  writeFileSync(
    `${path}.sha256`,
    `${createHash('sha256').update(bytes).digest('hex')}  moepp.node\n`,
  )
  t.doesNotThrow(() => checkWhole(file, '/package'))
  writeFileSync(path, bytes.subarray(1))
  t.throws(
    () => checkWhole(file, '/package'),
    /moepp\.node is damaged: .*expected [0-9a-f]{64}\. .*install it again/,
  )
  t.doesNotThrow(() => checkWhole({ path, origin: 'local build' }, '/package'))
})

t.test('where the addon came from', async t => {
  const folder = t.testdir()
  const root = join(folder, 'moepp')
  const other = join(folder, 'other')
  for (const at of [root, other]) mkdirSync(join(at, 'build', 'Release'), { recursive: true })
  writeFileSync(join(root, 'package.json'), '{"name":"moepp"}')
  for (const at of [root, other]) writeFileSync(join(at, 'build', 'Release', 'moepp.node'), '')
  const { MOEPP_BINDING, MOEPP_PREBUILD } = process.env
  t.teardown(() => {
    for (const [name, value] of Object.entries({ MOEPP_BINDING, MOEPP_PREBUILD }))
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
  })
  delete process.env.MOEPP_BINDING
  delete process.env.MOEPP_PREBUILD
  const built = {
    path: join(root, 'build', 'Release', 'moepp.node'),
    origin: 'local build' as const,
  }
  t.same(findAddon(root), built)
  t.equal(originOf(join(root, 'prebuilds', 'linux-x64', 'moepp.node'), root), 'prebuild')
  t.equal(
    originOf(join(root, 'builds', 'moepp.node'), root),
    'beside node',
    'no folder of the package',
  )
  t.equal(originOf(join(folder, 'prebuilds', 'linux-x64', 'sharp.node'), root), 'beside node')
  process.env.MOEPP_PREBUILD = other
  const named = {
    path: join(other, 'build', 'Release', 'moepp.node'),
    origin: 'environment' as const,
  }
  t.same(findAddon(root), named, "node-gyp-build's own variable")
  t.match(explainFailure(named, root, 'no'), /MOEPP_PREBUILD names it/)
  process.env.MOEPP_BINDING = '/x.node'
  t.same(findAddon(root), { path: '/x.node', origin: 'environment' })
  t.match(explainFailure(findAddon(root), root, 'no'), /MOEPP_BINDING names it/)
})

t.test('an addon of another version', async t => {
  const { dlopen, env } = process
  const { MOEPP_BINDING } = env
  t.teardown(() => {
    process.dlopen = dlopen
    if (MOEPP_BINDING === undefined) delete env.MOEPP_BINDING
    else env.MOEPP_BINDING = MOEPP_BINDING
  })
  env.MOEPP_BINDING = '/x.node'
  process.dlopen = module => {
    const names = 'writeTensors readBandwidth computePeaks processor isDeviceName cuda'.split(' ')
    const known = Object.fromEntries(names.map(name => [name, () => {}]))
    Object.assign(module, { exports: { ...known, Device: class {} } })
  }
  t.throws(loadBinding, {
    code: 'ERR_NO_BINDING',
    message:
      /\/x\.node: an addon of another version of moepp, without packedLayout, fastestIsa, ncclVersion, openGroup, localGroups\. MOEPP_BINDING names it\. To build it here: /,
  })
})

t.test('the C library is the one that this process runs on', { skip }, async t => {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } }
  t.equal(glibcVersion(), header.glibcVersionRuntime)
  const [here, elsewhere] = libc() === 'glibc' ? ['glibc', 'musl'] : ['musl', 'glibc']
  const text = (made: string) =>
    explainFailure({ path: `/x.${made}.node`, origin: 'prebuild' }, '/', 'no')
  t.match(text(elsewhere), `It is a file for ${elsewhere}, and this system's C library is ${here}.`)
  t.notMatch(text(here), 'C library')
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
      Buffer.concat([
        Buffer.from('MZ'),
        Buffer.alloc(58),
        Buffer.from('4000000050450000648600', 'hex'),
      ]),
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
  t.match(text, /built here, and is used instead of the package's binary/)
  t.match(text, `node ${join(folder, 'scripts', 'build-native.mjs')}`)
  t.match(
    explainFailure({ path: '/x.node', origin: 'beside node' }, folder, 'no'),
    /^\/x\.node: no\. It lies beside the node program/,
  )
})
