// Compares node_modules with package-lock.json, whichever command installed the packages.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** npm writes it last, so that an installation that was cut short has none. */
export const installedLock = folder => join(folder, 'node_modules', '.package-lock.json')

/**
 * True if node_modules of `folder` holds the packages of package-lock.json. npm leaves out optional
 * packages for other platforms, so only optional ones may be missing.
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
