/**
 * The demands that the Linux addon may make on a system. Every build and the packed binary are
 * checked.
 */
import type { Test } from 'tap'
import { compareVersions, type SharedLibrary } from './elf.js'

/**
 * The newest that a binary may need, Ubuntu 22.04's; where releases are tested, MOEPP_NEWEST_GLIBC
 * says that of their container.
 */
const newestGlibc = `GLIBC_${process.env.MOEPP_NEWEST_GLIBC || '2.35'}`
/** Before 2.34 these were libraries of their own; they are parts of every glibc. */
const PARTS_BEFORE_2_34 = ['libdl.so.2', 'libpthread.so.0', 'librt.so.1']
const ENTRY_POINTS = ['napi_register_module_v1', 'node_api_module_get_api_version_v1']

export function checkRequirements(t: Test, library: SharedLibrary): void {
  t.same(
    requirementFaults(library, newestGlibc),
    [],
    `needs the C library alone, ${newestGlibc} or older`,
  )
}

/** Needed or exported symbols beyond the limits, in words. */
export function requirementFaults(
  { needed, versions, exports }: SharedLibrary,
  limit: string,
): string[] {
  const isNumbered = (version: string) => /^GLIBC_2\.\d+(\.\d+)?$/.test(version)
  // Others are of libstdc++ or libgcc, or GLIBC_ABI_DT_RELR, which glibc has from 2.36 on, or
  // GLIBC_PRIVATE.
  const faults = versions.filter(version => !isNumbered(version)).map(version => `needs ${version}`)
  const newest = versions.filter(isNumbered).sort(compareVersions).at(-1)
  if (newest === undefined) return [...faults, 'names no version of glibc']
  if (compareVersions(newest, limit) > 0) faults.push(`needs ${newest}, at most ${limit}`)
  const linker = process.arch === 'arm64' ? 'ld-linux-aarch64.so.1' : 'ld-linux-x86-64.so.2'
  const allowed = ['libc.so.6', 'libm.so.6', linker]
  if (compareVersions(newest, 'GLIBC_2.34') < 0) allowed.push(...PARTS_BEFORE_2_34)
  faults.push(...needed.filter(name => !allowed.includes(name)).map(name => `needs ${name}`))
  faults.push(...exports.filter(name => !ENTRY_POINTS.includes(name)).map(name => `shows ${name}`))
  faults.push(...ENTRY_POINTS.filter(name => !exports.includes(name)).map(name => `lacks ${name}`))
  return faults
}
