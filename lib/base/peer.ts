/** Optional peers: packages that some options alone need. */

/**
 * Runs an import of a package.
 * @param name with its major version: `prom-client@15`
 * @param use what needs it
 * @throws Error with the line that installs it, if it is missing
 */
export async function importPeer<T>(name: string, use: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load()
  } catch (error) {
    if (!isMissing(error, name.replace(/@[\d.]+$/, ''))) throw error
    throw new Error(`${use} needs a further package: npm install ${name}`, { cause: error })
  }
}

/** True if the error says that this very package is not installed. */
export function isMissing(error: unknown, name: string): boolean {
  const { code, message } = error as NodeJS.ErrnoException
  return code === 'ERR_MODULE_NOT_FOUND' && message.includes(`'${name}'`)
}
