/** Finds the native addon's file, checks that it is whole, and explains a failed load. */

import { createHash } from 'node:crypto'
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs'
import nodeModule from 'node:module'
import { dirname, isAbsolute, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { MoeppError } from '../errors.js'

export interface AddonFile {
  readonly path: string
  /**
   * `environment`: MOEPP_BINDING names it, or it is in the folder of MOEPP_PREBUILD. `local build`:
   * it was built on this machine. `prebuild`: it is one of the package's binaries. `beside node`:
   * node-gyp-build found it last, in a folder `prebuilds` next to the node program.
   */
  readonly origin: 'environment' | 'local build' | 'prebuild' | 'beside node'
}

/**
 * The package's root: the nearest folder above this file that holds package.json. Undefined in a
 * bundle: another package's folder is nearest then, or the bundler left no `import.meta.url`.
 */
export function findPackageRoot(url: string | undefined = import.meta.url): string | undefined {
  if (!url?.startsWith('file:')) return undefined
  let folder = dirname(fileURLToPath(url))
  while (!existsSync(join(folder, 'package.json'))) {
    if (folder === dirname(folder)) return undefined
    folder = dirname(folder)
  }
  const { name } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  return name === 'moepp' ? folder : undefined
}

/** @throws MoeppError ERR_NO_BINDING in a bundle, saying what to do. */
export function packageRoot(): string {
  const root = findPackageRoot()
  if (root === undefined) throw new MoeppError('ERR_NO_BINDING', BUNDLED)
  return root
}

export function packageVersion(): string {
  return JSON.parse(readFileSync(join(packageRoot(), 'package.json'), 'utf8')).version
}

/** The remedy for a bundle, which cannot hold a native addon. */
export const BUNDLED =
  'moepp was bundled; mark it external: ' +
  "serverExternalPackages: ['moepp'] (Next.js), --external:moepp (esbuild), " +
  "--external moepp (bun build), externals: { moepp: 'commonjs moepp' } (webpack), " +
  "ssr: { external: ['moepp'] } (Vite). Or let MOEPP_BINDING name its .node file. " +
  'docs/frameworks.md in the package has an example of each'

/** The version of the glibc that this process runs on; undefined where the C library is another. */
export function glibcVersion(): string | undefined {
  // With the network, a report looks up the names of all that this process is connected to. Node 20
  // has no such option.
  const report = process.report as typeof process.report & { excludeNetwork?: boolean | undefined }
  const { excludeNetwork } = report
  report.excludeNetwork = true
  try {
    const { header } = report.getReport() as { header?: { glibcVersionRuntime?: string } }
    return header?.glibcVersionRuntime
  } finally {
    report.excludeNetwork = excludeNetwork
  }
}

/** The C library of a Linux system. */
export function libc(): 'glibc' | 'musl' | undefined {
  if (process.platform !== 'linux') return undefined
  return glibcVersion() === undefined ? 'musl' : 'glibc'
}

/** `linux-x64 (glibc)` */
export function platformName(): string {
  const library = libc()
  return `${process.platform}-${process.arch}${library ? ` (${library})` : ''}`
}

/** The package's binaries, `linux-x64/moepp.glibc.node`. */
export function prebuilds(root: string): string[] {
  try {
    const files = readdirSync(join(root, 'prebuilds'), { recursive: true, encoding: 'utf8' })
    return files
      .filter(file => file.endsWith('.node'))
      .map(file => file.replaceAll('\\', '/'))
      .sort()
  } catch {
    return []
  }
}

/**
 * `MOEPP_BINDING` if set, else what node-gyp-build finds: a local build, else the package's binary
 * for this platform. In a bundle, without a root, nothing but `MOEPP_BINDING` can name it.
 * @throws Error saying that there is none, and what to do.
 */
export function findAddon(root: string | undefined): AddonFile {
  const named = process.env.MOEPP_BINDING
  if (named && !named.endsWith('.node'))
    throw new Error(`MOEPP_BINDING: expected the path of a .node file, got ${named}`)
  if (named) return { path: resolve(named), origin: 'environment' }
  if (root === undefined) throw new Error(BUNDLED)
  let path: string
  try {
    // The code names neither import.meta.url nor a bare createRequire: webpack and Turbopack would
    // replace these calls by their own.
    path = nodeModule.createRequire(join(root, 'package.json'))('node-gyp-build').path(root)
  } catch (cause) {
    const there = prebuilds(root)
    const has = there.length > 0 ? `has ${there.join(', ')}` : 'has no binaries at all'
    throw new Error(`no binary for this platform; this package ${has}. ${howToBuild(root)}`, {
      cause,
    })
  }
  return { path, origin: originOf(path, root) }
}

/**
 * The reason that node-gyp-build took this file. It looks into the folder that MOEPP_PREBUILD
 * names, else into `root`, then next to node.
 */
export function originOf(path: string, root: string): AddonFile['origin'] {
  const isIn = (folder: string) => {
    const way = relative(folder, path)
    return !isAbsolute(way) && way.split(/[\\/]/)[0] !== '..'
  }
  if (isIn(join(root, 'build'))) return 'local build'
  if (isIn(join(root, 'prebuilds'))) return 'prebuild'
  const named = process.env.MOEPP_PREBUILD
  return named && isIn(resolve(named)) ? 'environment' : 'beside node'
}

/** The environment's variable that names the addon. */
export function namingVariable(): 'MOEPP_BINDING' | 'MOEPP_PREBUILD' {
  return process.env.MOEPP_BINDING ? 'MOEPP_BINDING' : 'MOEPP_PREBUILD'
}

/**
 * Compares a prebuild with the SHA-256 that was recorded when it was built. On a truncated file the
 * system's loader reads past the end, and the process dies.
 * @throws Error when the file is damaged.
 */
export function checkWhole({ path, origin }: AddonFile, root: string | undefined): void {
  const recorded = `${path}.sha256`
  if (origin !== 'prebuild' || !existsSync(recorded)) return
  const expected = readFileSync(recorded, 'utf8').slice(0, 64)
  const got = createHash('sha256').update(readFileSync(path)).digest('hex')
  if (got === expected) return
  throw new Error(
    `${path} is damaged: its SHA-256 is ${got}, expected ${expected}. ` +
      `Remove node_modules/moepp and install it again. ${howToBuild(root)}`,
  )
}

/** Explains the loader's message, and says what to do. */
export function explainFailure(
  { path, origin }: AddonFile,
  root: string | undefined,
  words: string,
): string {
  const hints: string[] = []
  const platform = platformOf(path)
  const here = `${process.platform}-${process.arch}`
  const version = /version `(GLIBC_[\d.]+)' not found/.exec(words)?.[1]
  if (platform !== undefined && platform !== here)
    hints.push(`It is a file for ${platform}, and this is ${here}.`)
  else if (version !== undefined)
    hints.push(`It needs ${version}, and this system's C library is older.`)
  const made = /\.(glibc|musl)\.node$/.exec(path)?.[1]
  const library = libc()
  if (made !== undefined && library !== undefined && made !== library)
    hints.push(`It is a file for ${made}, and this system's C library is ${library}.`)
  if (origin === 'environment') hints.push(`${namingVariable()} names it.`)
  if (origin === 'beside node') hints.push('It lies beside the node program, not in this package.')
  if (origin === 'local build' && root !== undefined && prebuilds(root).length > 0)
    hints.push(
      "It was built here, and is used instead of the package's binary. Remove it to use that one.",
    )
  const firstLine = words.split('\n')[0]!.trim()
  const said = firstLine.includes(path) ? firstLine : `${path}: ${firstLine}`
  return [`${said}.`, ...hints, howToBuild(root)].join(' ').trimEnd()
}

/** Empty in a bundle, which has no sources. */
function howToBuild(root: string | undefined): string {
  return root === undefined
    ? ''
    : `To build it here: node ${join(root, 'scripts', 'build-native.mjs')}`
}

const elfMachines = new Map([
  [0x3e, 'x64'],
  [0xb7, 'arm64'],
])
const peMachines = new Map([
  [0x8664, 'x64'],
  [0xaa64, 'arm64'],
])

/** The platform of a shared library by its header; undefined for other files. */
export function platformOf(path: string): string | undefined {
  const head = Buffer.alloc(4096)
  try {
    const file = openSync(path, 'r')
    try {
      readSync(file, head, 0, head.length, 0)
    } finally {
      closeSync(file)
    }
  } catch {
    return undefined
  }
  if (head.readUInt32BE(0) === 0x7f454c46)
    return `linux-${elfMachines.get(head.readUInt16LE(18)) ?? 'other'}`
  // Mach-O, 64 bits: the processor's type follows.
  if (head.readUInt32LE(0) === 0xfeedfacf)
    return `darwin-${head.readUInt32LE(4) === 0x0100000c ? 'arm64' : 'x64'}`
  if (head.toString('latin1', 0, 2) !== 'MZ') return undefined
  const header = head.readUInt32LE(0x3c)
  return header + 6 <= head.length
    ? `win32-${peMachines.get(head.readUInt16LE(header + 4)) ?? 'other'}`
    : undefined
}
