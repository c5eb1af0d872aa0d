// Packs what is published: moepp, with the binaries in prebuilds/, and its small model.
//
//   node scripts/pack.mjs [folder]     default: the checkout's root
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, realpathSync, rmSync } from 'node:fs'
import { delimiter, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { root, run } from './build-native.mjs'

/** The program of npm that runs this, else the one on the PATH. */
export function npmProgram() {
  const running = process.env.npm_execpath
  if (running?.endsWith('npm-cli.js')) return running
  const beside = join(dirname(process.execPath), 'node_modules', 'npm', 'bin', 'npm-cli.js')
  const found = process.env.PATH.split(delimiter).map(folder => join(folder, 'npm'))
  for (const candidate of [...found, beside]) {
    if (existsSync(candidate)) {
      const program = realpathSync(candidate)
      if (program.endsWith('.js')) return program
    }
  }
  console.error('moepp: npm was not found')
  process.exit(1)
}

/** The two tarballs, in an existing folder. */
export function pack(folder) {
  const packed = spawnSync(
    process.execPath,
    [npmProgram(), 'pack', '--json', '--pack-destination', folder, '.', './models/books-7m'],
    { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
  )
  if (packed.status !== 0) process.exit(packed.status ?? 1)
  const [moepp, model] = JSON.parse(packed.stdout).map(({ filename }) => join(folder, filename))
  return { moepp, model }
}

/**
 * The tarballs to test: those named, else this checkout's. They hold a prebuild for this platform
 * alone: a CPU build unless MOEPP_CUDA is ON or AUTO.
 */
export function tarballsToTest([moepp, model]) {
  if (moepp !== undefined && model !== undefined)
    return { moepp: resolve(moepp), model: resolve(model) }
  if (moepp !== undefined) {
    console.error('moepp: name the tarballs of moepp and of moepp-books-7m, or neither')
    process.exit(2)
  }
  const folder = join(root, 'build', 'package')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const env = { ...process.env, MOEPP_CUDA: process.env.MOEPP_CUDA || 'OFF' }
  run(process.execPath, [join(root, 'scripts', 'prebuild.mjs')], { env })
  return pack(folder)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { moepp, model } = pack(resolve(process.argv[2] ?? root))
  console.log(`${moepp}\n${model}`)
}
