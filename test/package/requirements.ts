/** What the Linux addon may ask of a system: checked of every build, and of the binary in the packed package. */
import type { Test } from 'tap'
import { compareVersions, type SharedLibrary } from './elf.js'

/** Ubuntu 22.04, Debian 12. The release is built where glibc is 2.28, and can need nothing newer than that. */
const NEWEST_GLIBC = 'GLIBC_2.35'
/** Before 2.34 these were libraries of their own; they are parts of every glibc. */
const PARTS_BEFORE_2_34 = ['libdl.so.2', 'libpthread.so.0', 'librt.so.1']

export function checkRequirements(t: Test, library: SharedLibrary): void {
  const newest = library.versions
    .filter(version => version.startsWith('GLIBC_2.'))
    .sort(compareVersions)
    .at(-1)
  t.ok(newest !== undefined, 'versions of glibc are named')
  t.ok(compareVersions(newest!, NEWEST_GLIBC) <= 0, `needs ${newest}, at most ${NEWEST_GLIBC}`)
  const foreign = library.versions.filter(version => !version.startsWith('GLIBC_'))
  t.same(foreign, [], 'no versions of libstdc++ or libgcc')
  const linker = process.arch === 'arm64' ? 'ld-linux-aarch64.so.1' : 'ld-linux-x86-64.so.2'
  const allowed = ['libc.so.6', 'libm.so.6', linker]
  if (compareVersions(newest!, 'GLIBC_2.34') < 0) allowed.push(...PARTS_BEFORE_2_34)
  t.same(
    library.needed.filter(name => !allowed.includes(name)),
    [],
    'needs nothing but the C library',
  )
  t.same(
    library.exports,
    ['napi_register_module_v1', 'node_api_module_get_api_version_v1'],
    'shows its two entry points alone',
  )
}
