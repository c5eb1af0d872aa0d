// The packages of this folder, which nothing else installs.

/** A package's exports, or the end of the program with the command that installs it. */
export async function load(name) {
  try {
    return await import(name)
  } catch (error) {
    const isMissing =
      error.code === 'ERR_MODULE_NOT_FOUND' && error.message.includes(`package '${name}'`)
    if (!isMissing) throw error
    console.error(`${name} is not installed: npm ci --prefix bench/compare`)
    process.exit(1)
  }
}
