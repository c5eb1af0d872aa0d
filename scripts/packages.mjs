// Whether node_modules holds the packages of package-lock.json, whoever installed them.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** npm writes it last, so that an installation that was cut short has none. */
export const installedLock = folder => join(folder, 'node_modules', '.package-lock.json')

/**
 * Compares the two lock files of `folder`. npm leaves out optional packages that are for other
 * platforms, so only those may be missing.
 */
export function packagesInstalled(folder) {
  if (!existsSync(installedLock(folder))) return false
  const read = path => JSON.parse(readFileSync(path, 'utf8')).packages
  let wanted
  let found
  try {
    wanted = read(join(folder, 'package-lock.json'))
    found = read(installedLock(folder))
  } catch {
    // npm says it better.
    return false
  }
  const same = name =>
    wanted[name].version === found[name].version && wanted[name].integrity === found[name].integrity
  const names = Object.keys(wanted).filter(name => name !== '')
  return (
    names.every(name => (name in found ? same(name) : wanted[name].optional === true)) &&
    Object.keys(found).every(name => name in wanted)
  )
}
