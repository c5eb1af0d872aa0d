/** A model that npm installed: `npm:moepp-books-7m` is the folder of that package. */
import { existsSync } from 'node:fs'
import nodeModule from 'node:module'
import { dirname, join } from 'node:path'
import { findPackageRoot } from '../addon/addon-file.js'
import { MoeppError } from '../errors.js'

/** The prefix of a source that names an npm package. */
export const NPM_PREFIX = 'npm:'

/** npm's rule for new names. It leaves no way out of node_modules. */
const PACKAGE_NAME = /^(?:@[a-z0-9~-][a-z0-9._~-]*\/)?[a-z0-9~-][a-z0-9._~-]*$/
const MAX_NAME_LENGTH = 214

/**
 * The folder of the installed package `name`, as `require` finds it from the working directory, or
 * else from moepp's own folder. No code of that package runs.
 * @throws MoeppError ERR_NOT_FOUND when the name is not npm's, the package is not installed, or it
 *   holds no model.
 */
export function npmModelDirectory(name: string): string {
  const source = `${NPM_PREFIX}${name}`
  if (!isPackageName(name)) {
    throw new MoeppError(
      'ERR_NOT_FOUND',
      `${source}: expected the name of an npm package after ${NPM_PREFIX}`,
    )
  }
  const manifest = findManifest(name)
  if (manifest === undefined) {
    throw new MoeppError(
      'ERR_NOT_FOUND',
      `${source}: the package is not installed. To install it: npm install ${name}`,
    )
  }
  const directory = dirname(manifest)
  if (existsSync(join(directory, 'config.json'))) return directory
  throw new MoeppError(
    'ERR_NOT_FOUND',
    `${source}: ${directory} holds no config.json, so the package is not a model`,
  )
}

function isPackageName(name: string): boolean {
  return name.length <= MAX_NAME_LENGTH && PACKAGE_NAME.test(name) && name !== 'node_modules'
}

/** The path of the package's package.json. */
function findManifest(name: string): string | undefined {
  for (const findFolder of [process.cwd, findPackageRoot]) {
    try {
      // Throws in a working directory that is removed.
      const folder = findFolder()
      if (folder === undefined) continue
      // Called so for the sake of bundlers: see addon-file.ts.
      const { resolve } = nodeModule.createRequire(join(folder, 'package.json'))
      return resolve(`${name}/package.json`)
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      if (code === 'MODULE_NOT_FOUND') continue
      throw new MoeppError('ERR_NOT_FOUND', `${NPM_PREFIX}${name}: ${message}`, { cause: error })
    }
  }
  return undefined
}
